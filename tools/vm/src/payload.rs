//! The part of the initramfs that belongs to one run: the command, its settings, its files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, name_of};
use crate::base;
use crate::error::{Context, Error};
use crate::kernel::{Kernel, KernelName};
use crate::libraries;
use crate::modules::{self, Modules};
use crate::spec::{GuestFile, Init, VmSpec};

/// How long before the time limit the guest reports what it is waiting for. Its clock starts when
/// its init does, several seconds after power-on.
const REPORT_MARGIN_S: u64 = 15;

const INIT: &str = include_str!("init.sh");

/// Returns the archive that follows the base archive. `token` ends the data of each port.
pub(crate) fn build(spec: &VmSpec, kernel: &Kernel, token: &str) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::new(Vec::new());
    let texts = [
        ("init", 0o755, INIT.to_owned()),
        ("pollux/command", 0o644, command_script(&spec.command)),
        ("pollux/settings", 0o644, settings(spec, token)),
    ];
    for (path, mode, text) in texts {
        archive
            .file(path, mode, text.as_bytes())
            .context(path, "adding to the initramfs")?;
    }
    let mut programs = Vec::new();
    for file in &spec.files {
        add(&mut archive, &file.host, &destination(file)?, &mut programs)?;
    }
    for library in libraries::of(&programs)? {
        base::add_file(&mut archive, &library, &base::guest_path(&library)?)?;
    }
    add_modules(&mut archive, spec, kernel)?;
    archive.finish().context("initramfs", "writing")
}

/// Adds the modules that the base archive lacks, with what they depend on.
fn add_modules(
    archive: &mut Archive<Vec<u8>>,
    spec: &VmSpec,
    kernel: &Kernel,
) -> Result<(), Error> {
    let in_base = |name: &&str| modules::LOADED.contains(name) || modules::PRESENT.contains(name);
    let names: Vec<&str> = spec
        .modules
        .iter()
        .map(|m| m.name.as_str())
        .filter(|name| !in_base(name))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    base::add_modules(archive, kernel, &Modules::of(kernel)?.needed(&names)?)
}

/// Adds a file, a link or a folder with all that is in it.
fn add(
    archive: &mut Archive<Vec<u8>>,
    host: &Path,
    guest: &str,
    programs: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    let meta = fs::metadata(host).context(host, "reading")?;
    if !meta.is_dir() {
        programs.push(host.to_path_buf());
        return base::add_file(archive, host, guest);
    }
    archive
        .dir(guest, meta.permissions().mode() & 0o7777)
        .context(host, "adding")?;
    for entry in fs::read_dir(host).context(host, "listing")? {
        let entry = entry.context(host, "listing")?;
        let inside = format!("{guest}/{}", entry.file_name().to_string_lossy());
        if entry
            .file_type()
            .context(entry.path(), "reading")?
            .is_symlink()
        {
            let target = fs::read_link(entry.path()).context(entry.path(), "reading")?;
            archive
                .symlink(&inside, &name_of(&target))
                .context(entry.path(), "adding")?;
        } else {
            add(archive, &entry.path(), &inside, programs)?;
        }
    }
    Ok(())
}

/// Returns where a file goes when nothing was said: programs to /usr/local/bin, which is in PATH,
/// the rest to /root, where the command runs.
fn destination(file: &GuestFile) -> Result<String, Error> {
    if let Some(guest) = &file.guest {
        return Ok(guest.clone());
    }
    let host = file.host.canonicalize().context(&file.host, "resolving")?;
    let meta = fs::metadata(&host).context(&host, "reading")?;
    let program = meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    let dir = if program { "/usr/local/bin" } else { "/root" };
    let name = file
        .host
        .file_name()
        .or(host.file_name())
        .unwrap_or_default();
    Ok(format!("{dir}/{}", name.to_string_lossy()))
}

/// Returns a shell script that becomes the command, each word as it was given.
fn command_script(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    format!("exec {}\n", words.join(" "))
}

fn settings(spec: &VmSpec, token: &str) -> String {
    let extra = spec.modules.iter().map(|m| m.name.as_str());
    let mut names: Vec<&str> = Vec::new();
    for name in extra.chain(modules::LOADED) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let out = if spec.out.is_some() { "1" } else { "" };
    let modules = quoted(&names.join(" "));
    let limit = spec.timeout.as_secs().saturating_sub(REPORT_MARGIN_S);
    // What init calls a port is followed by its number.
    let port = match spec.kernel {
        KernelName::Uml => "/dev/ttyS",
        _ => "/dev/vport0p",
    };
    let systemd = if spec.init == Init::Systemd { "1" } else { "" };
    let mut text = format!(
        "TOKEN={token}\nMODULES={modules}\nOUT={out}\nLIMIT={limit}\nPORT={port}\nSYSTEMD={systemd}\n"
    );
    for (name, value) in &spec.env {
        text.push_str(&format!("export {name}={}\n", quoted(value)));
    }
    text
}

/// Quotes a word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_pass_the_shell_unchanged() {
        let words = ["printf", "%s|", "a b", "it's", "$HOME `x` \\ \"q\"", ""].map(String::from);
        let output = std::process::Command::new("sh")
            .args(["-c", &command_script(&words)])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"a b|it's|$HOME `x` \\ \"q\"||");
    }

    #[test]
    fn programs_go_to_path_and_the_rest_to_the_working_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode| {
            let path = dir.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            GuestFile {
                host: path,
                guest: None,
            }
        };
        assert_eq!(destination(&file("p", 0o755)).unwrap(), "/usr/local/bin/p");
        assert_eq!(destination(&file("d", 0o644)).unwrap(), "/root/d");
        let folder = GuestFile {
            host: dir.path().into(),
            guest: None,
        };
        assert!(destination(&folder).unwrap().starts_with("/root/"));
    }

    #[test]
    fn settings_name_each_module_once() {
        let spec = VmSpec {
            modules: vec![
                "virtio_blk=poll_queues=1".parse().unwrap(),
                "xfs".parse().unwrap(),
            ],
            env: vec![("A".into(), "x y".into())],
            ..VmSpec::new(["true"])
        };
        let text = settings(&spec, "T");
        assert!(
            text.contains("MODULES='virtio_blk xfs vduse virtio_vdpa vhost_vdpa configfs'\n"),
            "{text}"
        );
        assert!(
            text.contains("export A='x y'\n")
                && text.contains("OUT=\nLIMIT=585\nPORT=/dev/vport0p\nSYSTEMD=\n"),
            "{text}"
        );
    }
}
