//! The log of one virtqueue. The order of its stores is in the module's documentation.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::mem::{Direction, Iova, RegionTable, SharedArray, SharedCell, TranslateError};

/// Where the entries are in an area.
pub(super) const ENTRIES_AT: u64 = 64;

/// What one worker writes down of its virtqueue. Stores are Release: each comes after all before it, for a
/// process that looks once this one is dead.
#[derive(Debug)]
pub struct QueueLog {
    used_idx: SharedCell<AtomicU16>,
    served: SharedCell<AtomicU16>,
    entries: SharedArray<AtomicU64>,
    size: u16,
    /// The number of the last request.
    number: u64,
    /// Heads returned since the last publication.
    returned: Vec<u16>,
}

/// Every store of the log goes through here.
macro_rules! store {
    ($cell:expr, $value:expr) => {
        #[cfg(test)]
        super::kill::point();
        $cell.store($value, Ordering::Release);
        #[cfg(test)]
        super::kill::point();
    };
}

impl QueueLog {
    pub(super) fn new(memory: &RegionTable, area: Iova, size: u16) -> Result<Self, TranslateError> {
        let at = |offset| Iova(area.0 + offset);
        Ok(Self {
            used_idx: memory.cell(at(0), Direction::Writable)?,
            served: memory.cell(at(2), Direction::Writable)?,
            entries: memory.array(at(ENTRIES_AT), size, Direction::Writable)?,
            size,
            number: 0,
            returned: Vec::with_capacity(usize::from(size)),
        })
    }

    /// Begins with nothing in flight in a ring at `used_idx`.
    pub fn begin(&mut self, used_idx: u16) {
        self.end();
        store!(self.used_idx, used_idx);
        store!(self.served, 1);
    }

    /// Forgets everything: the driver took the queue back.
    pub fn end(&mut self) {
        store!(self.served, 0);
        for head in 0..self.size {
            store!(self.entries.at(head), 0);
        }
        self.number = 0;
        self.returned.clear();
    }

    /// Notes that the chain at `head` was taken. Before the backend learns of it. One that is put back then is taken
    /// again either way.
    #[inline]
    pub fn taken(&mut self, head: u16) {
        self.number += 1;
        store!(self.entries.at(head), self.number);
    }

    /// Remembers that the chain at `head` goes back with the next publication.
    #[inline]
    pub fn returned(&mut self, head: u16) {
        self.returned.push(head);
    }

    /// Notes that what was returned is visible to the driver, at `used_idx`.
    #[inline]
    pub fn published(&mut self, used_idx: u16) {
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
    /// `used_idx` and whose used element at an index has the head `returned_at`. None when the queue was not
    /// served then.
    pub fn recover(&mut self, used_idx: u16, returned_at: impl Fn(u16) -> u32) -> Vec<u16> {
        if self.served.load(Ordering::Acquire) == 0 {
            self.begin(used_idx);
            return Vec::new();
        }
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

#[cfg(test)]
mod tests {
    use super::super::{InFlightLog, LogError};
    use super::*;

    fn file() -> std::fs::File {
        tempfile::tempfile().unwrap()
    }

    /// What the next process sees.
    fn again(file: &std::fs::File) -> QueueLog {
        let log = InFlightLog::open(file.try_clone().unwrap(), 2, 8).unwrap();
        log.queue(1).unwrap()
    }

    fn never(index: u16) -> u32 {
        panic!("looked at used element {index}")
    }

    #[test]
    fn what_was_taken_and_not_returned_is_found_oldest_first() {
        let file = file();
        let log = InFlightLog::create(file.try_clone().unwrap(), 2, 8).unwrap();
        let mut queue = log.queue(1).unwrap();
        queue.begin(65_534);
        for head in [3, 6, 0] {
            queue.taken(head);
        }
        queue.returned(6);
        queue.published(65_535);
        assert_eq!(again(&file).recover(65_535, never), [3, 0]);
        // Those that were recovered keep their numbers, and later ones have larger ones.
        let mut next = again(&file);
        assert_eq!(next.recover(65_535, never), [3, 0]);
        next.taken(1);
        assert_eq!(again(&file).recover(65_535, never), [3, 0, 1]);
        assert_eq!(log.queue(0).unwrap().recover(7, never), [0; 0]);
    }

    #[test]
    fn what_was_published_and_not_noted_is_in_the_used_ring() {
        let file = file();
        let log = InFlightLog::create(file.try_clone().unwrap(), 2, 8).unwrap();
        let mut queue = log.queue(1).unwrap();
        queue.begin(65_535);
        for head in [3, 6, 0] {
            queue.taken(head);
        }
        let used = |index: u16| match index {
            65_535 => 6,
            0 => 70_000,
            1 => 3,
            other => never(other),
        };
        assert_eq!(again(&file).recover(2, used), [0]);
        assert_eq!(again(&file).recover(2, never), [0]);
    }

    #[test]
    fn a_queue_that_the_driver_took_back_has_nothing_in_flight() {
        let file = file();
        let log = InFlightLog::create(file.try_clone().unwrap(), 2, 8).unwrap();
        let mut queue = log.queue(1).unwrap();
        queue.begin(0);
        queue.taken(4);
        queue.end();
        assert_eq!(again(&file).recover(9, never), [0; 0]);
    }

    #[test]
    fn files_that_are_no_such_log_are_refused() {
        let open = |file: &std::fs::File, queues| {
            InFlightLog::open(file.try_clone().unwrap(), queues, 8).unwrap_err()
        };
        let foreign = file();
        assert!(matches!(open(&foreign, 2), LogError::File(_)));
        foreign.set_len(1 << 20).unwrap();
        assert!(matches!(open(&foreign, 2), LogError::Foreign));
        InFlightLog::create(foreign.try_clone().unwrap(), 2, 8).unwrap();
        let error = open(&foreign, 3).to_string();
        assert!(error.contains("2 queues with 8 entries"), "{error}");
        foreign.set_len(4096).unwrap();
        assert!(matches!(open(&foreign, 2), LogError::Foreign));
    }
}
