//! Why a namespace cannot be served through its character device.

use std::io;
use std::path::PathBuf;

/// Why a namespace cannot be served through its character device.
#[derive(Debug, thiserror::Error)]
pub enum PassthroughError {
    /// It cannot be opened.
    #[error("cannot open {path}: {reason}; name one that is there, such as /dev/ng0n1, as root")]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Another character device.
    #[error("{path} is no namespace of an NVMe controller: name one, such as /dev/ng0n1")]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be asked what it is like.
    #[error("cannot find out what {path} is like: {reason}")]
    Examine {
        /// The path.
        path: PathBuf,
        /// What the system or the controller said.
        reason: io::Error,
    },
    /// Metadata, or blocks that no driver takes.
    #[error(
        "{path} has blocks of {block_bytes} bytes and {metadata_bytes} of metadata: format it with 512 to 4096 bytes \
         and none"
    )]
    Format {
        /// The path.
        path: PathBuf,
        /// Bytes of a block.
        block_bytes: u64,
        /// Bytes of metadata with each.
        metadata_bytes: u16,
    },
    /// A block size cannot be chosen.
    #[error("{path} has blocks of {block_bytes} bytes, not of {asked}: leave block_size out")]
    BlockSize {
        /// The path.
        path: PathBuf,
        /// Block size asked for.
        asked: u32,
        /// Its own.
        block_bytes: u64,
    },
    /// Its own protection.
    #[error("{path} is write-protected: add ro=on")]
    ReadOnly {
        /// The path.
        path: PathBuf,
    },
    /// The controller has no queues for it.
    #[error(
        "{path} has no queues that are polled: load its driver with some, as nvme.poll_queues=2 on the kernel's \
         command line does, or add iopoll=off"
    )]
    NoPoll {
        /// The path.
        path: PathBuf,
    },
    /// No size of a namespace can be chosen.
    #[error(
        "{path} has {size_bytes} bytes and cannot be made {asked}: resize the namespace first, then give its size"
    )]
    Size {
        /// The path.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// Size asked for.
        asked: u64,
    },
}
