//! The part of the initramfs that makes of a guest a small Debian with systemd as its init and a dpkg that installs.
//!
//! Packages come from the machine's own release and are unpacked, not configured: no maintainer script has run, and
//! the only users are those of base-passwd.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::apt::Apt;
use crate::archive::{Archive, name_of};
use crate::cache::Cache;
use crate::error::{Context, Error};
use crate::fetch;
use crate::host;

/// Raised when the same packages give another archive.
const FORMAT: u32 = 2;

/// What is asked for; apt adds what these depend on.
const PACKAGES: &[&str] = &[
    "base-passwd",
    "init-system-helpers",
    "libc-bin",
    "dpkg",
    // Essential, so that nothing says that it needs it.
    "perl-base",
    "systemd",
    "udev",
    // In place of usrmerge, which would bring all of perl.
    "usr-is-merged",
];

/// What nobody reads in a guest.
const LEFT_OUT: [&str; 7] = [
    "usr/lib/systemd/catalog",
    "usr/lib/udev/hwdb.d",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
];

/// Files of the guest's own, by path.
const FILES: [(&str, &str); 4] = [
    // Empty: neither the first boot of a new system nor one that waits for its identity.
    ("etc/machine-id", ""),
    (
        "etc/os-release",
        "ID=debian\nPRETTY_NAME=\"Debian in pollux vm\"\n",
    ),
    (
        "etc/systemd/system/pollux-vm.target",
        "[Unit]\nDescription=The command of pollux vm\nRequires=basic.target pollux-vm.service\n\
         After=basic.target\nAllowIsolate=yes\n",
    ),
    (
        "etc/systemd/system/pollux-vm.service",
        "[Unit]\nDescription=The command of pollux vm\n\n[Service]\nExecStart=/init command\n\
         LimitNOFILE=65536\nTasksMax=infinity\n",
    ),
];

/// Returns the archive, made when it is not in the cache.
pub(crate) fn get(cache: &Cache, progress: &dyn Fn(&str)) -> Result<PathBuf, Error> {
    let folder = cache.root().join("debian");
    let (archive, inputs) = (folder.join("debian.cpio"), folder.join("debian.inputs"));
    let wanted = format!("{FORMAT} {PACKAGES:?} {LEFT_OUT:?} {FILES:?}");
    let fresh = || archive.is_file() && fs::read_to_string(&inputs).is_ok_and(|it| it == wanted);
    if fresh() {
        return Ok(archive);
    }
    let lock = cache.lock()?;
    if fresh() {
        return Ok(archive);
    }
    progress("fetching systemd and dpkg from Debian's archive");
    let scratch = lock.scratch()?;
    let sources = fetch::own_sources()?;
    if sources.is_empty() {
        let text =
            "init systemd: no source of this Debian release in /etc/apt; add one and try again";
        return Err(Error::Invalid(text.into()));
    }
    let packages = Apt::update(&scratch.path().join("apt"), &sources)?.download_all(PACKAGES)?;
    let tree = scratch.path().join("tree");
    unpack(&packages, &tree)?;
    let made = scratch.path().join("debian.cpio");
    pack(&tree, &made)?;
    fs::create_dir_all(&folder).context(&folder, "making")?;
    fs::rename(&made, &archive).context(&archive, "moving into place")?;
    fs::write(&inputs, wanted).context(&inputs, "writing")?;
    Ok(archive)
}

/// Unpacks the packages and tells dpkg that they are installed.
fn unpack(packages: &[PathBuf], tree: &Path) -> Result<(), Error> {
    let info = tree.join("var/lib/dpkg/info");
    for folder in [&info, &tree.join("var/lib/dpkg/updates")] {
        fs::create_dir_all(folder).context(folder, "making")?;
    }
    let mut status = String::new();
    for package in packages {
        // Prints what it unpacks.
        let mut unpack = host::command("dpkg-deb");
        let files = host::output(unpack.arg("-X").arg(package).arg(tree))?;
        let control = host::output(host::command("dpkg-deb").arg("-f").arg(package))?;
        let installed = installed(&control).ok_or_else(|| Error::HostCommand {
            command: "dpkg-deb".into(),
            reason: format!("{}: no name in its control file", package.display()),
        })?;
        let list = info.join(format!("{}.list", installed.0));
        fs::write(&list, absolute(&files)).context(&list, "writing")?;
        status.push_str(&installed.1);
    }
    let path = tree.join("var/lib/dpkg/status");
    fs::write(&path, status).context(&path, "writing")?;
    for name in ["passwd", "group"] {
        let path = tree.join("etc").join(name);
        let master = tree.join(format!("usr/share/base-passwd/{name}.master"));
        fs::copy(&master, &path).context(&master, "copying")?;
    }
    Ok(())
}

/// Returns dpkg's list of a package's files, from their names in its archive.
fn absolute(files: &str) -> String {
    let lines = files.lines().map(|line| match line.trim_end_matches('/') {
        "." => "/.\n".to_owned(),
        file => format!("{}\n", file.trim_start_matches('.')),
    });
    lines.collect()
}

/// Returns a package's name, and its paragraph of dpkg's status file.
fn installed(control: &str) -> Option<(String, String)> {
    let name = control
        .lines()
        .find_map(|line| line.strip_prefix("Package: "))?;
    let status = "Status: install ok installed";
    Some((
        name.to_owned(),
        format!("{status}\n{}\n\n", control.trim_end()),
    ))
}

/// Writes the archive.
fn pack(tree: &Path, path: &Path) -> Result<(), Error> {
    let out = File::create(path).context(path, "creating")?;
    let mut archive = Archive::new(BufWriter::new(out));
    for (guest, text) in FILES {
        archive
            .file(guest, 0o644, text.as_bytes())
            .context(path, "writing")?;
    }
    add(&mut archive, tree, "")?;
    let mut out = archive.finish().context(path, "writing")?;
    out.flush().context(path, "writing")
}

/// Adds what is in `folder`, which is `guest` there.
fn add<W: Write>(archive: &mut Archive<W>, folder: &Path, guest: &str) -> Result<(), Error> {
    let entries = fs::read_dir(folder).context(folder, "listing")?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = name_of(Path::new(path.file_name().unwrap_or_default()));
        let inside = format!("{guest}{name}");
        let meta = fs::symlink_metadata(&path).context(&path, "reading")?;
        let mode = meta.permissions().mode() & 0o7777;
        if is_left_out(&inside) {
            continue;
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).context(&path, "reading")?;
            archive
                .symlink(&inside, &name_of(&target))
                .context(&path, "adding")?;
        } else if meta.is_dir() {
            archive.dir(&inside, mode).context(&path, "adding")?;
            add(archive, &path, &format!("{inside}/"))?;
        } else {
            let data = fs::read(&path).context(&path, "reading")?;
            archive
                .file(&inside, mode, &data)
                .context(&path, "adding")?;
        }
    }
    Ok(())
}

/// Whether the guest does without, wherever the package puts it.
fn is_left_out(guest: &str) -> bool {
    LEFT_OUT
        .iter()
        .any(|path| guest == *path || path.strip_prefix("usr/") == Some(guest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_told_to_dpkg() {
        let (name, text) =
            installed("Package: udev\nVersion: 252\nDescription: x\n more\n").unwrap();
        assert_eq!(name, "udev");
        let expected =
            "Status: install ok installed\nPackage: udev\nVersion: 252\nDescription: x\n more\n\n";
        assert_eq!(text, expected);
        assert!(installed("Version: 252\n").is_none());
    }

    #[test]
    fn files_are_listed_as_dpkg_does() {
        assert_eq!(
            absolute("./\n./usr/\n./usr/bin/x\n"),
            "/.\n/usr\n/usr/bin/x\n"
        );
    }

    #[test]
    fn what_nobody_reads_stays_out() {
        assert!(is_left_out("usr/share/doc") && is_left_out("lib/udev/hwdb.d"));
        assert!(!is_left_out("usr/share") && !is_left_out("share"));
    }

    #[test]
    fn a_tree_becomes_an_archive_of_merged_folders() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        for folder in ["lib/systemd", "usr/share/doc/a", "usr/bin"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        fs::write(tree.join("lib/systemd/systemd"), "elf").unwrap();
        fs::write(tree.join("usr/share/doc/a/copyright"), "text").unwrap();
        let path = dir.path().join("debian.cpio");
        pack(&tree, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let has = |name: &str| bytes.windows(name.len()).any(|it| it == name.as_bytes());
        assert!(has("usr/lib/systemd/systemd") && has("etc/machine-id") && !has("copyright"));
    }
}
