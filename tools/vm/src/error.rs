//! What can go wrong before and after a guest runs.

use std::path::{Path, PathBuf};

/// Why a virtual machine could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the host could not be read or written.
    #[error("{}: {action}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was being done with it.
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Programs of the host that the rig needs are not installed.
    #[error("missing on this host: {tools}; install with: apt-get install -y {packages}")]
    MissingTools {
        /// The programs' names.
        tools: String,
        /// The Debian packages that hold them.
        packages: String,
    },
    /// A program of the host failed.
    #[error("{command}: {reason}")]
    HostCommand {
        /// The command line.
        command: String,
        /// Its last words.
        reason: String,
    },
    /// The machine's apt has no source to take a kernel from.
    #[error("kernel {kernel}: no Debian source for '{suite}' in /etc/apt; add one and try again")]
    NoSource {
        /// The kernel asked for.
        kernel: String,
        /// The suite that was looked for.
        suite: String,
    },
    /// No package holds the kernel.
    #[error("kernel {kernel}: no package in {suites}; use --kernel 6.12 or --kernel newest")]
    NoKernel {
        /// The kernel asked for.
        kernel: String,
        /// Where it was looked for.
        suites: String,
    },
    /// The kernel's packages did not hold what was expected.
    #[error("kernel {kernel}: no {what} in its packages; try `pollux vm update`")]
    BrokenKernel {
        /// The kernel's release.
        kernel: String,
        /// What was missing.
        what: String,
    },
    /// A module that the kernel does not have.
    #[error("module {name}: not in kernel {kernel}; leave it out or try another --kernel")]
    NoModule {
        /// The module.
        name: String,
        /// The kernel's release.
        kernel: String,
    },
    /// A request that cannot be met, with its reason and remedy.
    #[error("{0}")]
    Invalid(String),
    /// The guest's output could not be passed on.
    #[error("passing on the guest's {stream}: {source}")]
    Output {
        /// Which stream.
        stream: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Names the file in an I/O error.
pub(crate) trait Context<T> {
    /// Adds the file and what was being done with it.
    fn context(self, path: impl AsRef<Path>, action: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<std::io::Error>> Context<T> for Result<T, E> {
    fn context(self, path: impl AsRef<Path>, action: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::File {
            path: path.as_ref().to_path_buf(),
            action,
            source: source.into(),
        })
    }
}
