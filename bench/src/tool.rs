//! Programs that a benchmark runs, and the command that installs each.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that is needed is not installed.
#[derive(Debug, thiserror::Error)]
#[error("{program}: not found in PATH; install it with `{install}`")]
pub struct ToolError {
    program: &'static str,
    install: &'static str,
}

/// A program and how one gets it on Debian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) install: &'static str,
}

pub(crate) const FIO: Tool = Tool {
    program: "fio",
    install: "apt-get install fio",
};
pub(crate) const QEMU: Tool = Tool {
    program: "qemu-storage-daemon",
    install: "apt-get install qemu-system-common",
};
pub(crate) const VDPA: Tool = Tool {
    program: "vdpa",
    install: "apt-get install iproute2",
};

pub(crate) const RUBLK: Tool = Tool {
    program: "rublk",
    // As `tools/peers` does it.
    install: "apt-get install libclang-dev && cargo install rublk --version 0.2.15 --locked \
              --no-default-features",
};

/// Where `tools/peers` puts what it builds, seen from the folder of a built `pollux`.
const PEERS: &str = "../peers/bin";

// `su` without `-` leaves these out of PATH, and vdpa lives there.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

impl Tool {
    /// The program's full path.
    pub(crate) fn find(self) -> Result<PathBuf, ToolError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let own = env::current_exe().unwrap_or_default();
        let peers = own.parent().map(|folder| folder.join(PEERS));
        env::split_paths(&path)
            .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
            .chain(peers)
            .map(|folder| folder.join(self.program))
            .find(|file| file.is_file())
            .ok_or(ToolError {
                program: self.program,
                install: self.install,
            })
    }
}

/// The first line of `PROGRAM --version`, or `None` where the program cannot be run.
pub(crate) fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_tells_how_to_get_it() {
        let error = Tool {
            program: "no-such-program",
            install: "apt-get install fio",
        }
        .find()
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("no-such-program") && text.contains("apt-get install fio"),
            "{text}"
        );
    }

    #[test]
    fn a_present_program_is_found_and_tells_its_version() {
        let bash = Tool {
            program: "bash",
            install: "apt-get install bash",
        }
        .find()
        .unwrap();
        assert!(version(&bash).unwrap().contains("bash"));
        assert_eq!(version(Path::new("/no/such/program")), None);
    }
}
