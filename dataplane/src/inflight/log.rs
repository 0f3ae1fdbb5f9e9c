//! The file: its header, and the area of each virtqueue.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::QueueLog;
use crate::mem::{Access, Iova, Mapping, MappingError, Region, RegionTable, TableError};

const MAGIC: [u8; 8] = *b"POLLUXIF";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 16;
const PAGE_BYTES: u64 = 4096;

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read or written.
    #[error("the in-flight log: {0}")]
    File(#[from] std::io::Error),
    /// It cannot be mapped.
    #[error("the in-flight log: {0}")]
    Map(#[from] MappingError),
    /// It is too short or too long to be mapped.
    #[error("the in-flight log: {0}")]
    Table(#[from] TableError),
    /// Something else, or of another version.
    #[error("the in-flight log is none of this version")]
    Foreign,
    /// Of other queues.
    #[error("the in-flight log is of {queues} queues with {entries} entries")]
    Queues {
        /// Virtqueues.
        queues: u16,
        /// Entries of each.
        entries: u16,
    },
}

/// The in-flight log of one device.
#[derive(Debug)]
pub struct InFlightLog {
    memory: RegionTable,
    queues: u16,
    entries: u16,
}

impl InFlightLog {
    /// Makes `file` an empty log for `queues` virtqueues of `entries` entries.
    ///
    /// # Errors
    ///
    /// [`LogError`] when it cannot be written or mapped.
    pub fn create(file: File, queues: u16, entries: u16) -> Result<Self, LogError> {
        file.set_len(0)?;
        file.set_len(PAGE_BYTES + u64::from(queues) * area_bytes(entries))?;
        file.write_all_at(&header(queues, entries), 0)?;
        Self::map(file, queues, entries)
    }

    /// Returns an empty log that ends with this process.
    ///
    /// # Errors
    ///
    /// [`LogError`] when there is no memory for it.
    pub fn anonymous(queues: u16, entries: u16) -> Result<Self, LogError> {
        let file = memfd_create("in-flight", MFdFlags::MFD_CLOEXEC);
        Self::create(file.map_err(std::io::Error::from)?.into(), queues, entries)
    }

    /// Opens the log in `file`, which must be for `queues` virtqueues of `entries` entries.
    ///
    /// # Errors
    ///
    /// [`LogError`] when it is not, or cannot be read or mapped.
    pub fn open(file: File, queues: u16, entries: u16) -> Result<Self, LogError> {
        let mut found = [0; HEADER_BYTES];
        file.read_exact_at(&mut found, 0)?;
        let [.., q0, q1, e0, e1] = found;
        let (found_queues, found_entries) =
            (u16::from_le_bytes([q0, q1]), u16::from_le_bytes([e0, e1]));
        if found != header(found_queues, found_entries) {
            return Err(LogError::Foreign);
        }
        if (found_queues, found_entries) != (queues, entries) {
            return Err(LogError::Queues {
                queues: found_queues,
                entries: found_entries,
            });
        }
        Self::map(file, queues, entries)
    }

    fn map(file: File, queues: u16, entries: u16) -> Result<Self, LogError> {
        let bytes = PAGE_BYTES + u64::from(queues) * area_bytes(entries);
        if file.metadata()?.len() < bytes {
            return Err(LogError::Foreign);
        }
        let mapping = Mapping::new(file.into(), 0, bytes, Access::ReadWrite)?;
        let region = Region {
            first: Iova(0),
            last: Iova(bytes - 1),
            mapping: Arc::new(mapping),
        };
        Ok(Self {
            memory: RegionTable::new(vec![region])?,
            queues,
            entries,
        })
    }

    /// Returns the log of virtqueue `index`; `None` when there is no such queue.
    pub fn queue(&self, index: u16) -> Option<QueueLog> {
        if index >= self.queues {
            return None;
        }
        let area = Iova(PAGE_BYTES + u64::from(index) * area_bytes(self.entries));
        QueueLog::new(&self.memory, area, self.entries).ok()
    }
}

/// Returns the bytes of a virtqueue's area.
fn area_bytes(entries: u16) -> u64 {
    super::packed_log::area_bytes(entries).next_multiple_of(PAGE_BYTES)
}

fn header(queues: u16, entries: u16) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..14].copy_from_slice(&queues.to_le_bytes());
    header[14..].copy_from_slice(&entries.to_le_bytes());
    header
}
