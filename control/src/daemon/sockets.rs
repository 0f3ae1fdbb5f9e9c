//! Sockets in the runtime directory, `PID.sock`: a daemon that is killed leaves its own behind.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::SOCKET_SUFFIX;

/// Removes the sockets in `folder` of processes that do not exist any more.
pub(super) fn remove_dead(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_suffix(SOCKET_SUFFIX))
            .and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)) {
            // Another daemon may have been faster.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_the_living_stay() {
        let folder = tempfile::tempdir().unwrap();
        let living = format!("{}{SOCKET_SUFFIX}", std::process::id());
        // Above what Linux gives out.
        let dead = format!("{}{SOCKET_SUFFIX}", 1 << 23);
        for name in [&living, &dead, "d0.lock", "other.sock"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        remove_dead(folder.path());
        let left = |name: &str| folder.path().join(name).exists();
        assert!(left(&living) && left("d0.lock") && left("other.sock"));
        assert!(!left(&dead));
    }
}
