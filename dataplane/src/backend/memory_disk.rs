//! What the null and ram backends have in common: a size that the user chose.

use std::path::PathBuf;

use super::{FileError, PassthroughError};
use crate::blk::{Geometry, SECTOR_BYTES, SERIAL_BYTES};

/// Options of a disk without storage of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block size in bytes: 512, 1024, 2048 or 4096.
    pub block_bytes: u32,
    /// Refuse writes.
    pub read_only: bool,
    /// The answer to GET_ID, at most 20 bytes.
    pub serial: String,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            size_bytes: 0,
            block_bytes: 512,
            read_only: false,
            serial: String::new(),
        }
    }
}

/// Why a disk cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Nothing to serve.
    #[error("size is 0: give at least one block, for example size=1G")]
    SizeZero,
    /// More than a file offset counts.
    #[error("size {0} is larger than Linux can address, 8 EiB: use less")]
    SizeLarge(u64),
    /// Not whole blocks.
    #[error("size {size_bytes} is not a multiple of the block size {block_bytes}: round it")]
    SizeUnaligned {
        /// Size asked for.
        size_bytes: u64,
        /// Block size.
        block_bytes: u32,
    },
    /// Block sizes that Linux does not take everywhere.
    #[error("block_size {0} is not one of 512, 1024, 2048, 4096")]
    BlockSize(u32),
    /// GET_ID has 20 bytes.
    #[error("serial '{0}' is longer than 20 bytes or not ASCII: shorten it")]
    Serial(String),
    /// More than the machine has.
    #[error(
        "size {size_bytes} is larger than this machine's memory, {memory_bytes} bytes: use less"
    )]
    LargerThanMemory {
        /// Size asked for.
        size_bytes: u64,
        /// Memory of the machine.
        memory_bytes: u64,
    },
    /// The file could not be had.
    #[error("cannot use {path}: {reason}; name a file that can be read and written")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file holds another disk.
    #[error(
        "{path} has {found} bytes, not the {length} of the disk: give that size, or name a new or empty file"
    )]
    FileLength {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// The disk's.
        length: u64,
    },
    /// A file or block device.
    #[error(transparent)]
    Storage(#[from] FileError),
    /// A namespace of an NVMe controller.
    #[error(transparent)]
    Passthrough(#[from] PassthroughError),
    /// The memory could not be had.
    #[error("cannot set {size_bytes} bytes of memory aside: {reason}{remedy}")]
    Memory {
        /// Size asked for.
        size_bytes: u64,
        /// What the kernel said.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The controller or its namespace.
    #[error(transparent)]
    Nvme(#[from] super::NvmeError),
}

/// Returns `geometry` with another size.
pub(super) fn resized(geometry: &Geometry, size_bytes: u64) -> Result<Geometry, DiskError> {
    Ok(Geometry {
        capacity_sectors: whole_blocks(size_bytes, geometry.block_bytes)?,
        ..geometry.clone()
    })
}

/// Returns the sectors of a disk of `size_bytes`.
pub(super) fn whole_blocks(size_bytes: u64, block_bytes: u32) -> Result<u64, DiskError> {
    if size_bytes == 0 {
        return Err(DiskError::SizeZero);
    }
    if i64::try_from(size_bytes).is_err() {
        return Err(DiskError::SizeLarge(size_bytes));
    }
    if !size_bytes.is_multiple_of(u64::from(block_bytes)) {
        return Err(DiskError::SizeUnaligned {
            size_bytes,
            block_bytes,
        });
    }
    Ok(size_bytes / SECTOR_BYTES)
}

/// Returns `text` as the answer to GET_ID.
pub(super) fn serial(text: &str) -> Result<[u8; SERIAL_BYTES], DiskError> {
    if text.len() > SERIAL_BYTES || !text.is_ascii() {
        return Err(DiskError::Serial(text.into()));
    }
    let mut serial = [0; SERIAL_BYTES];
    serial[..text.len()].copy_from_slice(text.as_bytes());
    Ok(serial)
}

impl DiskOptions {
    /// Returns the geometry of such a disk.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when an option makes no sense.
    pub fn geometry(&self) -> Result<Geometry, DiskError> {
        let &Self {
            size_bytes,
            block_bytes,
            ..
        } = self;
        if ![512, 1024, 2048, 4096].contains(&block_bytes) {
            return Err(DiskError::BlockSize(block_bytes));
        }
        let capacity_sectors = whole_blocks(size_bytes, block_bytes)?;
        // Whole blocks below 2 GiB, so that ranges count in 32 bits.
        let range_sectors_max = 1 << 22;
        Ok(Geometry {
            capacity_sectors,
            block_bytes,
            physical_block_exponent: (4096 / block_bytes).ilog2() as u8,
            optimal_io_blocks: 0,
            read_only: self.read_only,
            volatile_cache: true,
            discard_sectors_max: range_sectors_max,
            write_zeroes_sectors_max: range_sectors_max,
            write_zeroes_may_unmap: true,
            secure_erase_sectors_max: 0,
            serial: serial(&self.serial)?,
        })
    }
}
