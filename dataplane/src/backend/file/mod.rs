//! A disk in a file or on a block device, through an io_uring for each worker.
//!
//! By default the page cache is left out (O_DIRECT), and what is advertised is what the storage itself says: size,
//! block sizes, limits, whether it has a volatile cache.

pub(super) mod claim;
mod erase;
mod error;
mod storage;
mod target;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use error::FileError;

use super::memory_disk::{resized, serial, whole_blocks};
use super::uring::{RingOptions, UringQueue};
use super::{Backend, DiskError};
use crate::blk::{Geometry, SECTOR_BYTES};
use storage::Storage;

/// Sectors of one discard or zero range, at most: whole blocks below 2 GiB, so that ranges count in 32 bits.
const RANGE_SECTORS_MAX: u32 = 1 << 22;

/// A queue of the file backend.
pub type FileQueue = UringQueue<Storage>;

/// How to serve a file or block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Where it is.
    pub path: PathBuf,
    /// It is to be a block device, not a file.
    pub is_block: bool,
    /// Make a file that is not there, or is empty, this large.
    pub size_bytes: Option<u64>,
    /// Logical block size in bytes; by default the least that the storage takes.
    pub block_bytes: Option<u32>,
    /// Refuse writes.
    pub read_only: bool,
    /// Leave the page cache out.
    pub direct: bool,
    /// The answer to GET_ID; by default the storage's own, or `fallback_serial`.
    pub serial: String,
    /// The answer to GET_ID of a storage without one.
    pub fallback_serial: String,
    /// How each worker reaches it.
    pub ring: RingOptions,
}

/// The file backend.
#[derive(Debug)]
pub struct FileDisk {
    options: FileOptions,
    geometry: Geometry,
    storage: Arc<Storage>,
}

impl FileDisk {
    /// Opens the storage. It is not [claimed](Self::claim) yet.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when it is not there, or not to be served like that.
    pub fn new(options: &FileOptions) -> Result<Self, DiskError> {
        let makes = options.size_bytes.is_some() && !options.is_block;
        let storage = Storage::open(&options.path, options.read_only, options.direct, makes)?;
        if storage.is_block != options.is_block {
            let (found, right) = match storage.is_block {
                true => ("block device", "block"),
                false => ("file", "file"),
            };
            let path = options.path.clone();
            return Err(FileError::OtherKind { path, found, right }.into());
        }
        let mut disk = Self {
            geometry: Geometry::default(),
            options: options.clone(),
            storage: Arc::new(storage),
        };
        disk.geometry = match options.is_block {
            true => disk.device_geometry()?,
            false => disk.file_geometry()?,
        };
        Ok(disk)
    }

    /// Takes the storage for this process alone, before anything is read or written.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when another serves it, or it is mounted.
    pub fn claim(&self) -> Result<(), DiskError> {
        let claim = &self.storage.claim;
        let claimed = claim.take(&self.storage, self.options.read_only);
        claimed.map_err(Into::into)
    }

    /// Lets go of the storage, for another process that serves it from here on.
    pub fn release(&self) {
        self.storage.claim.release();
    }

    /// Returns the file, whose length may have changed.
    pub fn outliving_file(&self) -> Option<&File> {
        (!self.options.is_block).then_some(&self.storage.file)
    }

    fn size_bytes(&self) -> Result<u64, FileError> {
        let size_bytes = self.storage.size_bytes();
        size_bytes.map_err(|reason| FileError::Examine {
            path: self.options.path.clone(),
            reason,
        })
    }

    /// Returns the logical block size: at least `least`.
    fn block_bytes(&self, least: u32) -> Result<u32, DiskError> {
        let asked = self.options.block_bytes.unwrap_or(least);
        if ![512, 1024, 2048, 4096].contains(&asked) {
            return Err(DiskError::BlockSize(asked));
        }
        if asked < least {
            let path = self.options.path.clone();
            return Err(FileError::BlockSize { path, asked, least }.into());
        }
        Ok(asked)
    }

    /// Returns the sectors of the storage as it is, in whole blocks.
    fn capacity_sectors(&self, block_bytes: u32) -> Result<u64, DiskError> {
        let path = || self.options.path.clone();
        match self.size_bytes()? {
            0 => Err(FileError::Empty { path: path() }.into()),
            size_bytes if !size_bytes.is_multiple_of(u64::from(block_bytes)) => {
                Err(FileError::Unaligned {
                    path: path(),
                    size_bytes,
                    block_bytes,
                }
                .into())
            }
            size_bytes => Ok(size_bytes / SECTOR_BYTES),
        }
    }

    fn file_geometry(&self) -> Result<Geometry, DiskError> {
        let options = &self.options;
        let least = self.storage.block_bytes.max(SECTOR_BYTES as usize) as u32;
        let block_bytes = self.block_bytes(least)?;
        if let Some(size_bytes) = options.size_bytes {
            whole_blocks(size_bytes, block_bytes)?;
            match self.size_bytes()? {
                0 => self.set_length(size_bytes)?,
                found if found == size_bytes => {}
                found => {
                    return Err(DiskError::FileLength {
                        path: options.path.clone(),
                        found,
                        length: size_bytes,
                    });
                }
            }
        }
        Ok(Geometry {
            capacity_sectors: self.capacity_sectors(block_bytes)?,
            block_bytes,
            physical_block_exponent: (4096 / block_bytes).ilog2() as u8,
            optimal_io_blocks: 0,
            read_only: options.read_only,
            volatile_cache: true,
            discard_sectors_max: RANGE_SECTORS_MAX,
            write_zeroes_sectors_max: RANGE_SECTORS_MAX,
            write_zeroes_may_unmap: true,
            // A file system keeps copies that nobody knows of.
            secure_erase_sectors_max: 0,
            serial: self.serial("")?,
        })
    }

    fn device_geometry(&self) -> Result<Geometry, DiskError> {
        let path = || self.options.path.clone();
        let queue = self.storage.queue();
        let queue = queue.map_err(|reason| FileError::Examine {
            path: path(),
            reason,
        })?;
        if queue.is_read_only && !self.options.read_only {
            return Err(FileError::ReadOnly { path: path() }.into());
        }
        if self.options.ring.polled && !queue.can_poll {
            return Err(FileError::NoPoll { path: path() }.into());
        }
        let size_bytes = self.size_bytes()?;
        if let Some(asked) = self.options.size_bytes.filter(|asked| *asked != size_bytes) {
            return Err(FileError::FixedSize {
                path: path(),
                size_bytes,
                asked,
                remedy: "leave size= out",
            }
            .into());
        }
        let block_bytes = self.block_bytes(queue.logical_block_bytes)?;
        let sectors = |bytes: u64| {
            let sectors = (bytes / SECTOR_BYTES).min(u64::from(RANGE_SECTORS_MAX));
            // Whole blocks.
            (sectors - sectors % (u64::from(block_bytes) / SECTOR_BYTES)) as u32
        };
        let physical_blocks = (queue.physical_block_bytes / block_bytes).max(1);
        Ok(Geometry {
            capacity_sectors: self.capacity_sectors(block_bytes)?,
            block_bytes,
            physical_block_exponent: physical_blocks.ilog2() as u8,
            optimal_io_blocks: queue.optimal_io_bytes / block_bytes,
            read_only: self.options.read_only,
            volatile_cache: queue.has_volatile_cache || !self.options.direct,
            discard_sectors_max: sectors(queue.discard_bytes_max),
            write_zeroes_sectors_max: sectors(queue.write_zeroes_bytes_max),
            write_zeroes_may_unmap: queue.discard_bytes_max > 0,
            secure_erase_sectors_max: match erase::is_supported(&self.storage.file) {
                true => erase::SECTORS_MAX,
                false => 0,
            },
            serial: self.serial(&queue.serial)?,
        })
    }

    fn serial(&self, own: &str) -> Result<[u8; 20], DiskError> {
        let cut = |text: &str| text.chars().filter(char::is_ascii).take(20).collect();
        let own: String = cut(own);
        let fallback: String = cut(&self.options.fallback_serial);
        let written = Some(&self.options.serial);
        let all = [written, Some(&own), Some(&fallback)];
        let first = all.into_iter().flatten().find(|serial| !serial.is_empty());
        serial(first.map_or("", String::as_str))
    }

    fn set_length(&self, size_bytes: u64) -> Result<(), FileError> {
        let set = self.storage.file.set_len(size_bytes);
        set.map_err(|reason| FileError::Length {
            path: self.options.path.clone(),
            size_bytes,
            reason,
        })
    }
}

impl Backend for FileDisk {
    type Queue = FileQueue;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> std::io::Result<FileQueue> {
        let file = self.storage.file.as_fd();
        FileQueue::new(Arc::clone(&self.storage), file, self.options.ring)
    }

    /// A file takes any size; a block device has the one that it has got by now.
    fn resized(&self, asked: u64) -> Result<Geometry, DiskError> {
        let path = || self.options.path.clone();
        let still = self.storage.is_still_there();
        if !still.map_err(|reason| FileError::Examine {
            path: path(),
            reason,
        })? {
            return Err(FileError::Replaced { path: path() }.into());
        }
        let size_bytes = self.size_bytes()?;
        if self.options.is_block && size_bytes != asked {
            return Err(FileError::FixedSize {
                path: path(),
                size_bytes,
                asked,
                remedy: "resize the device first, then give its size",
            }
            .into());
        }
        resized(&self.geometry, asked)
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        let size_bytes = geometry.size_bytes();
        let has = self.size_bytes()?;
        let shrinks = size_bytes < self.geometry.size_bytes();
        // A file that was made longer behind our back keeps what is there.
        if !self.options.is_block && (has < size_bytes || shrinks && has > size_bytes) {
            self.set_length(size_bytes)?;
        }
        self.geometry = geometry;
        Ok(())
    }
}
