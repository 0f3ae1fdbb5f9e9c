//! The log of a split virtqueue. The order of its stores is in the module's documentation.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use super::queue_log::ENTRIES_AT;
use crate::mem::{Direction, Iova, RegionTable, SharedArray, SharedCell, TranslateError};

/// What one worker writes down of a split virtqueue.
#[derive(Debug)]
pub(super) struct SplitLog {
    used_idx: SharedCell<AtomicU16>,
    entries: SharedArray<AtomicU64>,
    size: u16,
    /// The number of the last request.
    number: u64,
    /// Heads returned since the last publication.
    returned: Vec<u16>,
}

impl SplitLog {
    pub(super) fn new(memory: &RegionTable, area: Iova, size: u16) -> Result<Self, TranslateError> {
        let at = |offset| Iova(area.0 + offset);
        Ok(Self {
            used_idx: memory.cell(at(0), Direction::Writable)?,
            entries: memory.array(at(ENTRIES_AT), size, Direction::Writable)?,
            size,
            number: 0,
            returned: Vec::with_capacity(usize::from(size)),
        })
    }

    /// Begins with nothing in flight in a ring at `used_idx`.
    pub(super) fn begin(&mut self, used_idx: u16) {
        store!(self.used_idx, used_idx);
    }

    pub(super) fn clear(&mut self) {
        for head in 0..self.size {
            store!(self.entries.at(head), 0);
        }
        self.number = 0;
        self.returned.clear();
    }

    /// Notes that the chain at `head` was taken. Before the backend learns of it. One that is put back then is taken
    /// again either way.
    #[inline]
    pub(super) fn taken(&mut self, head: u16) {
        self.number += 1;
        store!(self.entries.at(head), self.number);
    }

    /// Remembers that the chain at `head` goes back with the next publication.
    #[inline]
    pub(super) fn returned(&mut self, head: u16) {
        self.returned.push(head);
    }

    /// Notes that what was returned is visible to the driver, at `used_idx`.
    #[inline]
    pub(super) fn published(&mut self, used_idx: u16) {
        if self.returned.is_empty() {
            return;
        }
        for &head in &self.returned {
            store!(self.entries.at(head), 0);
        }
        self.returned.clear();
        store!(self.used_idx, used_idx);
    }

    /// Goes on after a worker that was killed. Returns the heads in flight, oldest first, in a ring that is at
    /// `used_idx` and whose used element at an index has the head `returned_at`.
    pub(super) fn recover(&mut self, used_idx: u16, returned_at: impl Fn(u16) -> u32) -> Vec<u16> {
        let logged = self.used_idx.load(Ordering::Acquire);
        let unlogged = used_idx.wrapping_sub(logged).min(self.size);
        for back in 1..=unlogged {
            // The driver can write there: what is no head is none of ours.
            if let Ok(head) = u16::try_from(returned_at(used_idx.wrapping_sub(back)))
                && head < self.size
            {
                store!(self.entries.at(head), 0);
            }
        }
        store!(self.used_idx, used_idx);
        let number_of = |head: u16| self.entries.at(head).load(Ordering::Acquire);
        let mut heads: Vec<u16> = (0..self.size).filter(|&head| number_of(head) > 0).collect();
        heads.sort_by_key(|&head| number_of(head));
        self.number = heads.last().map_or(0, |&head| number_of(head));
        heads
    }
}
