//! The right to a file or block device: one server at a time, and none beside a mount.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use nix::fcntl::{Flock, FlockArg};

use super::FileError;
use super::storage::Storage;

/// A claim to a storage, held or not. It is apart from the file that is served, so that it can be given up while
/// requests still end there, and be taken up only once the one before has done so.
#[derive(Debug, Default)]
pub(in crate::backend) struct Claim(Mutex<Option<Held>>);

/// Ends with its file.
#[derive(Debug)]
enum Held {
    /// Opened with O_EXCL, which the kernel refuses while it is mounted or opened like that.
    Device(File),
    /// Locked: several may if all only read.
    File { _lock: Flock<File> },
}

impl Claim {
    /// Takes `storage`, to be written unless `read_only`. One that is held stays so.
    ///
    /// # Errors
    ///
    /// [`FileError`] when another has it.
    pub(super) fn take(&self, storage: &Storage, read_only: bool) -> Result<(), FileError> {
        match storage.is_block {
            true => self.take_device(&storage.path, read_only),
            false => self.hold(|| file(&storage.path, read_only)),
        }
    }

    /// The same for the block device at `path`.
    pub(in crate::backend) fn take_device(
        &self,
        path: &Path,
        read_only: bool,
    ) -> Result<(), FileError> {
        self.hold(|| device(path, read_only))
    }

    fn hold(&self, take: impl FnOnce() -> Result<Held, FileError>) -> Result<(), FileError> {
        let mut held = self.held();
        if held.is_none() {
            *held = Some(take()?);
        }
        Ok(())
    }

    /// Does something through the file that holds a device; through `other` where none does.
    pub(super) fn through<T>(&self, other: &File, action: impl FnOnce(&File) -> T) -> T {
        match &*self.held() {
            Some(Held::Device(file)) => action(file),
            _ => action(other),
        }
    }

    /// Lets go of it.
    pub(in crate::backend) fn release(&self) {
        *self.held() = None;
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn device(path: &Path, read_only: bool) -> Result<Held, FileError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(!read_only);
    match options
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(path)
    {
        Ok(file) => Ok(Held::Device(file)),
        Err(reason) if reason.raw_os_error() == Some(libc::EBUSY) => Err(FileError::InUse {
            path: path.into(),
            reason: "it is mounted, or another program holds it; unmount it, or end that",
        }),
        Err(reason) => Err(FileError::open(path, reason, read_only, false)),
    }
}

fn file(path: &Path, read_only: bool) -> Result<Held, FileError> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(!read_only).open(path);
    let refuse = |reason| FileError::open(path, reason, read_only, false);
    let kind = match read_only {
        true => FlockArg::LockSharedNonblock,
        false => FlockArg::LockExclusiveNonblock,
    };
    match Flock::lock(opened.map_err(refuse)?, kind) {
        Ok(lock) => Ok(Held::File { _lock: lock }),
        Err((_, nix::Error::EWOULDBLOCK)) => Err(FileError::InUse {
            path: path.into(),
            reason: "another daemon serves it; stop that one, or serve a copy",
        }),
        Err((_, errno)) => Err(refuse(errno.into())),
    }
}
