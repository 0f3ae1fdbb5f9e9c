//! A name is served by one daemon at a time: a locked file in the runtime directory says which.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use vduse::Name;

/// Why a name cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another daemon has it.
    #[error(
        "device {name} is already served by process {owner}: stop that one, take the device over with --takeover, or use \
         another name"
    )]
    Taken {
        /// The name.
        name: Name,
        /// The other daemon's process id, as it wrote it.
        owner: String,
    },
    /// The runtime directory cannot be used.
    #[error("cannot use {path}: {reason}; run as root or give --runtime-dir a folder of yours")]
    Folder {
        /// What was tried.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// The right to serve a name. Dropping it gives the name back.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Makes the runtime directory, if it is not there.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

impl Claim {
    /// Claims `name` in `folder`, which is made if it is not there. A lock that a killed daemon left is
    /// taken over, and removed with this claim.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] when another daemon has the name or the folder cannot be used.
    pub fn new(folder: &Path, name: &Name) -> Result<Self, ClaimError> {
        let path = folder.join(format!("{name}.lock"));
        let refuse = |reason: io::Error| ClaimError::Folder {
            path: path.clone(),
            reason,
        };
        make_folder(folder).map_err(refuse)?;
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let file = options.open(&path).map_err(refuse)?;
            let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut owner = String::new();
                    file.read_to_string(&mut owner).map_err(refuse)?;
                    return Err(ClaimError::Taken {
                        name: name.clone(),
                        owner,
                    });
                }
                Err((_, errno)) => return Err(refuse(errno.into())),
            };
            if !is_still_there(&lock, &path) {
                // Its last owner removed it between our open and our lock.
                continue;
            }
            let written = lock.set_len(0).and_then(|()| lock.rewind());
            written
                .and_then(|()| write!(lock, "{}", std::process::id()))
                .map_err(refuse)?;
            return Ok(Self { path, _lock: lock });
        }
    }
}

/// Returns whether `path` still names the file that was locked.
fn is_still_there(lock: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |metadata: io::Result<std::fs::Metadata>| metadata.ok().map(|m| m.ino());
    inode(lock.metadata()) == inode(std::fs::metadata(path))
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while still locked, so nobody else has it by then.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_claimed_once_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("run");
        let name: Name = "d0".parse().unwrap();
        let claim = Claim::new(&folder, &name).unwrap();
        let taken = Claim::new(&folder, &name).unwrap_err().to_string();
        assert!(taken.contains(&std::process::id().to_string()), "{taken}");
        Claim::new(&folder, &"d1".parse().unwrap()).unwrap();
        drop(claim);
        Claim::new(&folder, &name).unwrap();
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            0,
            "a lock was left behind"
        );
    }
}
