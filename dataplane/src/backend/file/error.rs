//! Why a file or block device cannot be served.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file or block device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot open {path}: {reason}{remedy}")]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// It cannot be asked what it is like.
    #[error("cannot find out what {path} is like: {reason}")]
    Examine {
        /// The path.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A folder, a pipe, a character device.
    #[error("{path} is neither a file nor a block device: name one")]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// `file` with a block device, or the other way round.
    #[error("{path} is a {found}: write {right},path={path}")]
    OtherKind {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// The backend for it.
        right: &'static str,
    },
    /// Nothing in it.
    #[error("{path} is empty: give a size to make it that large, for example size=1G")]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// Part of a block would be left over.
    #[error(
        "{path} has {size_bytes} bytes, not a multiple of the block size {block_bytes}: truncate it to whole blocks"
    )]
    Unaligned {
        /// The path.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// Bytes of a block.
        block_bytes: u32,
    },
    /// Smaller than the storage can.
    #[error(
        "block_size {asked} is smaller than the {least} bytes that {path} takes without its page cache: use {least}, \
         or direct=off"
    )]
    BlockSize {
        /// The path.
        path: PathBuf,
        /// Block size asked for.
        asked: u32,
        /// The least.
        least: u32,
    },
    /// Its own protection.
    #[error("{path} is read-only: add ro=on")]
    ReadOnly {
        /// The path.
        path: PathBuf,
    },
    /// It has no queues for it.
    #[error(
        "{path} has no queues that are polled: load its driver with some, as nvme.poll_queues=2 on the kernel's command \
         line does, or add iopoll=off"
    )]
    NoPoll {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else has it.
    #[error("{path} is in use: {reason}")]
    InUse {
        /// The path.
        path: PathBuf,
        /// By whom, and what to do.
        reason: &'static str,
    },
    /// No size of a block device can be chosen.
    #[error("{path} has {size_bytes} bytes, as a block device it cannot be made {asked}: {remedy}")]
    FixedSize {
        /// The path.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// Size asked for.
        asked: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// What is served is not there any more.
    #[error(
        "{path} is another file than the one that is served: put that one back, or serve the new one anew"
    )]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be made as long.
    #[error("cannot make {path} {size_bytes} bytes long: {reason}")]
    Length {
        /// The path.
        path: PathBuf,
        /// Size asked for.
        size_bytes: u64,
        /// What the system said.
        reason: io::Error,
    },
}

impl FileError {
    pub(super) fn open(path: &Path, reason: io::Error, read_only: bool, direct: bool) -> Self {
        let remedy = match reason.raw_os_error() {
            Some(libc::ENOENT) => "; name one that is there, or add size=, for example size=1G",
            Some(libc::EACCES | libc::EPERM | libc::EROFS) if !read_only => {
                "; add ro=on, or allow this user to write it"
            }
            Some(libc::EINVAL) if direct => {
                "; its file system does not go without its page cache: add direct=off"
            }
            _ => "",
        };
        Self::Open {
            path: path.into(),
            reason,
            remedy,
        }
    }
}
