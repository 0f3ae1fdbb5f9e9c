//! The part of the initramfs that is the same from run to run: tools, their libraries, modules.
//!
//! Kept beside the kernel, with a list of the host files it was made of; made again when one of
//! them changes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::archive::{Archive, name_of};
use crate::cache::Cache;
use crate::error::{Context, Error};
use crate::host::{self, Tool};
use crate::kernel::Kernel;
use crate::libraries;
use crate::modules::{self, Modules};

/// Raised when the same inputs give another archive.
const FORMAT: u32 = 2;

/// Programs that every guest has.
const TOOLS: &[Tool] = &[
    ("busybox", "busybox-static"),
    ("bash", "bash"),
    ("fio", "fio"),
    ("vdpa", "iproute2"),
    ("qemu-storage-daemon", "qemu-system-common"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_repair", "xfsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("blockdev", "util-linux"),
    ("lsblk", "util-linux"),
    ("taskset", "util-linux"),
];

/// Programs and files that a guest has when the host has them.
const OPTIONAL: &[&str] = &["strace", "nvme", "resize2fs", "xfs_growfs", "rublk"];
/// The guest's PATH, as in init.sh.
const GUEST_PATH: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
const CONFIG: &[&str] = &["/etc/mke2fs.conf"];

/// Returns the base archive for the kernel, made when it is missing or out of date.
pub(crate) fn get(
    cache: &Cache,
    kernel: &Kernel,
    progress: &dyn Fn(&str),
) -> Result<PathBuf, Error> {
    host::require(TOOLS)?;
    let dir = kernel.dir();
    let (archive, inputs) = (dir.join("base.cpio"), dir.join("base.inputs"));
    let fresh = || archive.is_file() && is_fresh(&fs::read_to_string(&inputs).unwrap_or_default());
    if fresh() {
        return Ok(archive);
    }
    let lock = cache.lock()?;
    if fresh() {
        return Ok(archive);
    }
    progress("building the initramfs");
    let scratch = lock.scratch()?;
    let made = scratch.path().join("base.cpio");
    let list = build(kernel, &made)?;
    fs::rename(&made, &archive).context(&archive, "moving into place")?;
    fs::write(&inputs, list).context(&inputs, "writing")?;
    Ok(archive)
}

/// Writes the archive and returns the list of its inputs.
fn build(kernel: &Kernel, path: &Path) -> Result<String, Error> {
    let tools = tools();
    let mut files: BTreeSet<PathBuf> = libraries::of(&tools)?;
    files.extend(tools.iter().cloned());
    files.extend(
        CONFIG
            .iter()
            .map(PathBuf::from)
            .filter(|file| file.is_file()),
    );
    let out = fs::File::create(path).context(path, "creating")?;
    let mut archive = Archive::new(BufWriter::new(out));
    skeleton(&mut archive).context(path, "writing")?;
    for file in &files {
        let guest = match tools.contains(file) {
            true => program_path(file)?,
            false => guest_path(file)?,
        };
        add_file(&mut archive, file, &guest)?;
    }
    applets(&mut archive, path)?;
    let modules = Modules::of(kernel)?;
    let mut wanted = modules.needed(&modules::LOADED)?;
    wanted.extend(modules.available(modules::PRESENT));
    add_modules(&mut archive, kernel, &wanted)?;
    add_indexes(&mut archive, kernel, &wanted)?;
    let mut out = archive.finish().context(path, "writing")?;
    out.flush().context(path, "writing")?;
    let lines = files.iter().map(|file| stamp(file));
    Ok(std::iter::once(header())
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Adds one host file with its permissions.
pub(crate) fn add_file<W: Write>(
    archive: &mut Archive<W>,
    file: &Path,
    guest: &str,
) -> Result<(), Error> {
    let mode = fs::metadata(file)
        .context(file, "reading")?
        .permissions()
        .mode();
    let data = fs::read(file).context(file, "reading")?;
    archive
        .file(guest, mode | 0o400, &data)
        .context(file, "adding to the initramfs")
}

/// Adds modules, decompressed: the guest's modprobe is busybox's.
pub(crate) fn add_modules<W: Write>(
    archive: &mut Archive<W>,
    kernel: &Kernel,
    files: &BTreeSet<String>,
) -> Result<(), Error> {
    for file in files {
        let path = kernel.modules().join(file);
        let guest = format!(
            "lib/modules/{}/{}",
            kernel.release,
            modules::uncompressed(file)
        );
        let data = modules::read(&path)?;
        archive
            .file(&guest, 0o644, &data)
            .context(&path, "adding to the initramfs")?;
    }
    Ok(())
}

/// Adds depmod's indexes, so that `modprobe` works: all dependencies, aliases of what is there.
fn add_indexes<W: Write>(
    archive: &mut Archive<W>,
    kernel: &Kernel,
    files: &BTreeSet<String>,
) -> Result<(), Error> {
    for name in [
        "modules.dep",
        "modules.alias",
        "modules.softdep",
        "modules.builtin",
    ] {
        let path = kernel.modules().join(name);
        let text = fs::read_to_string(&path).context(&path, "reading")?;
        let text = match name {
            "modules.dep" => text.replace(".ko.xz", ".ko"),
            "modules.alias" => modules::aliases(&text, files),
            _ => text,
        };
        let guest = format!("lib/modules/{}/{name}", kernel.release);
        archive
            .file(&guest, 0o644, text.as_bytes())
            .context(&path, "adding to the initramfs")?;
    }
    Ok(())
}

/// Folders and files that every system has.
fn skeleton<W: Write>(archive: &mut Archive<W>) -> io::Result<()> {
    archive.merged_links()?;
    for dir in [
        "dev",
        "proc",
        "sys",
        "run",
        "mnt",
        "out",
        "etc",
        "var",
        "usr/local/bin",
    ] {
        archive.dir(dir, 0o755)?;
    }
    archive.dir("root", 0o700)?;
    archive.dir("tmp", 0o1777)?;
    archive.symlink("var/tmp", "/tmp")?;
    archive.symlink("var/run", "/run")?;
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/bash\n")?;
    archive.file("etc/group", 0o644, b"root:x:0:\n")?;
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost pollux-vm\n")
}

/// Links busybox's applets wherever there is no program of that name.
fn applets<W: Write>(archive: &mut Archive<W>, path: &Path) -> Result<(), Error> {
    for name in host::output(host::command("busybox").arg("--list"))?.lines() {
        if !["bin", "sbin"]
            .iter()
            .any(|dir| archive.contains(&format!("usr/{dir}/{name}")))
        {
            archive
                .symlink(&format!("usr/bin/{name}"), "/usr/bin/busybox")
                .context(path, "writing")?;
        }
    }
    Ok(())
}

/// Returns the host's tools, the required ones and the optional ones that it has.
fn tools() -> Vec<PathBuf> {
    let names = TOOLS
        .iter()
        .map(|(name, _)| *name)
        .chain(OPTIONAL.iter().copied());
    names.filter_map(host::find).collect()
}

/// Returns where a host file goes: the same path, its folder without links. Its own name stays:
/// mkfs.ext4 is a link, and the program looks at the name it was called by.
pub(crate) fn guest_path(file: &Path) -> Result<String, Error> {
    let parent = file.parent().unwrap_or(Path::new("/"));
    let parent = parent.canonicalize().context(parent, "resolving")?;
    Ok(name_of(&parent.join(file.file_name().unwrap_or_default())))
}

/// Returns where a program goes: to the same path where the guest looks for programs, otherwise to
/// /usr/local/bin.
fn program_path(file: &Path) -> Result<String, Error> {
    let guest = guest_path(file)?;
    let folder = guest.rsplit_once('/').map_or("", |(folder, _)| folder);
    if GUEST_PATH.contains(&folder) {
        return Ok(guest);
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("/usr/local/bin/{name}"))
}

/// What the archive depends on beside the contents of files.
fn header() -> String {
    format!(
        "{FORMAT} {:?} {:?} {:?}",
        tools(),
        modules::LOADED,
        modules::PRESENT
    )
}

/// Whether every file of the list is as it was.
fn is_fresh(list: &str) -> bool {
    let mut lines = list.lines();
    lines.next().is_some_and(|first| first == header())
        && lines.all(|line| {
            let file = line.split('\t').next().unwrap_or_default();
            line == stamp(Path::new(file))
        })
}

/// Returns a file's path, size and time of change, as one line.
fn stamp(file: &Path) -> String {
    let meta = fs::metadata(file);
    let (size, time) = meta.map_or((0, (0, 0)), |m| (m.size(), (m.mtime(), m.mtime_nsec())));
    format!("{}\t{size}\t{}.{:09}", file.display(), time.0, time.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_makes_the_archive_stale() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        fs::write(&file, "1").unwrap();
        let list = [header(), stamp(&file)].join("\n");
        assert!(is_fresh(&list));
        fs::write(&file, "12").unwrap();
        assert!(!is_fresh(&list));
        assert!(!is_fresh(""));
        assert!(!is_fresh("0 other tools"));
    }

    #[test]
    fn programs_go_where_the_guest_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let built = dir.path().join("rublk");
        fs::write(&built, "").unwrap();
        assert_eq!(program_path(&built).unwrap(), "/usr/local/bin/rublk");
        let path = program_path(Path::new("/usr/bin/env")).unwrap();
        assert_eq!(path, "/usr/bin/env");
        let guest = format!("export PATH={}\n", GUEST_PATH.join(":"));
        assert!(include_str!("init.sh").contains(&guest));
    }

    #[test]
    fn linked_folders_are_resolved_but_names_stay() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("usr");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("mke2fs"), "").unwrap();
        std::os::unix::fs::symlink("mke2fs", real.join("mkfs.ext4")).unwrap();
        std::os::unix::fs::symlink("usr", dir.path().join("sbin")).unwrap();
        let guest = guest_path(&dir.path().join("sbin/mkfs.ext4")).unwrap();
        assert_eq!(guest, name_of(&real.join("mkfs.ext4")));
    }
}
