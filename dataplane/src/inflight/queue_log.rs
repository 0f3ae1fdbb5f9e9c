//! The log of one virtqueue, whatever its format turns out to be.

use std::sync::atomic::{AtomicU16, Ordering};

use super::packed_log::PackedLog;
use super::split_log::SplitLog;
use crate::mem::{Direction, Iova, RegionTable, SharedCell, TranslateError};

/// Where the entries are in an area.
pub(super) const ENTRIES_AT: u64 = 64;

/// What one worker writes down of its virtqueue. Stores are Release: each comes after all before it, for a
/// process that looks once this one is dead.
#[derive(Debug)]
pub struct QueueLog {
    /// The format that is served, or zero.
    served: SharedCell<AtomicU16>,
    pub(super) split: SplitLog,
    pub(super) packed: PackedLog,
}

/// Which part of the log is in use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    Split = 1,
    Packed = 2,
}

impl QueueLog {
    pub(super) fn new(memory: &RegionTable, area: Iova, size: u16) -> Result<Self, TranslateError> {
        Ok(Self {
            served: memory.cell(Iova(area.0 + 2), Direction::Writable)?,
            split: SplitLog::new(memory, area, size)?,
            packed: PackedLog::new(memory, area, size)?,
        })
    }

    /// Notes that a queue of `format` is served from here on, which its part of the log says.
    pub(super) fn serve(&mut self, format: Format) {
        store!(self.served, format as u16);
    }

    /// Returns whether there is a queue that is served.
    pub fn is_served(&self) -> bool {
        self.served.load(Ordering::Acquire) > 0
    }

    /// Returns whether that has `format`.
    pub(super) fn serves(&self, format: Format) -> bool {
        self.served.load(Ordering::Acquire) == format as u16
    }

    /// Forgets everything: the driver took the queue back.
    pub fn end(&mut self) {
        store!(self.served, 0);
        self.split.clear();
        self.packed.clear();
    }
}
