//! Programs of the host: where they are, the Debian packages that hold them, running them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// A program and the Debian package that holds it.
pub(crate) type Tool = (&'static str, &'static str);

/// What the rig itself runs on the host.
const RIG_TOOLS: &[Tool] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("depmod", "kmod"),
    ("ldd", "libc-bin"),
];

/// Folders looked at after PATH: an ordinary user's PATH lacks the sbin ones.
const SBIN: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where `tools/peers` puts what it builds, seen from the folder of a built `pollux`.
const PEERS: &str = "../peers/bin";

/// Returns where `name` is, looking in PATH, the sbin folders and what `tools/peers` built.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::current_exe().unwrap_or_default();
    let peers = own.parent().map(|dir| dir.join(PEERS));
    std::env::split_paths(&path)
        .chain(SBIN.iter().map(PathBuf::from))
        .chain(peers)
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Refuses to go on when a program the rig runs, or one of `more`, is not installed.
pub(crate) fn require(more: &[Tool]) -> Result<(), Error> {
    let missing: Vec<&Tool> = RIG_TOOLS
        .iter()
        .chain(more)
        .filter(|(name, _)| find(name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let join = |pick: fn(&&Tool) -> &'static str, by: &str| {
        let mut names: Vec<_> = missing.iter().map(pick).collect();
        names.sort_unstable();
        names.dedup();
        names.join(by)
    };
    Err(Error::MissingTools {
        tools: join(|t| t.0, ", "),
        packages: join(|t| t.1, " "),
    })
}

/// Returns a command for a program of the host, with messages in plain English.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(find(name).unwrap_or_else(|| name.into()));
    command
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null());
    command
}

/// Runs a command and returns its stdout.
///
/// # Errors
/// When it cannot be started or fails; the reason is the end of its stderr.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let failed = |command: &Command, reason: String| Error::HostCommand {
        command: Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        reason,
    };
    let output = command
        .output()
        .map_err(|e| failed(command, e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = stderr.lines().filter(|l| !l.trim().is_empty()).collect();
    let reason = match last.len() {
        0 => output.status.to_string(),
        n => last[n.saturating_sub(3)..].join("; "),
    };
    Err(failed(command, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tools_are_named_with_their_packages() {
        let error = require(&[("no-such-a", "pkg"), ("no-such-b", "pkg")]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no-such-a, no-such-b"), "{text}");
        assert!(text.ends_with("pkg"), "{text}");
    }

    #[test]
    fn a_failing_command_gives_its_last_words() {
        let error = output(command("sh").args(["-c", "echo cause >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "sh: cause");
        assert_eq!(
            output(command("sh").args(["-c", "echo fine"])).unwrap(),
            "fine\n"
        );
    }
}
