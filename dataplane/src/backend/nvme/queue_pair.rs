//! A submission queue and the completion queue that belongs to it (NVM Express base specification 2.0, 3.3).

use super::command::{COMMAND_BYTES, Command};
use super::completion::{Completion, Entry};
use super::dma::{DmaMemory, PAGE_BYTES};
use super::registers::Doorbell;
use crate::mem::{SharedArray, TranslateError};

/// Two rings in memory of the device's. Who uses it has at most one command less than there are entries with the
/// device, so neither ring is ever full.
#[derive(Debug)]
pub(super) struct QueuePair {
    completions: SharedArray<Entry>,
    entries: u16,
    tail: u16,
    head: u16,
    /// The phase of entries of this lap.
    phase: bool,
    /// What the doorbells were last told.
    told_tail: u16,
    told_head: u16,
    doorbells: [Doorbell; 2],
}

/// Returns the bytes of a submission queue of `entries` entries, whole pages.
pub(super) fn submission_bytes(entries: u16) -> u64 {
    (u64::from(entries) * COMMAND_BYTES as u64).next_multiple_of(PAGE_BYTES)
}

/// Returns the bytes of a completion queue of `entries` entries, whole pages.
fn completion_bytes(entries: u16) -> u64 {
    (u64::from(entries) * size_of::<Entry>() as u64).next_multiple_of(PAGE_BYTES)
}

/// Returns the bytes of both.
pub(super) fn pair_bytes(entries: u16) -> u64 {
    submission_bytes(entries) + completion_bytes(entries)
}

impl QueuePair {
    /// Returns a pair of queues of `entries` entries, a power of two, at the start of `memory`, empty.
    pub(super) fn new(
        memory: &DmaMemory,
        entries: u16,
        doorbells: [Doorbell; 2],
    ) -> Result<Self, TranslateError> {
        let bytes = submission_bytes(entries);
        // Entries of a phase that was would be taken for new ones.
        memory.segment(bytes, completion_bytes(entries))?.zero();
        Ok(Self {
            completions: memory.array(bytes, entries)?,
            entries,
            tail: 0,
            head: 0,
            phase: true,
            told_tail: 0,
            told_head: 0,
            doorbells,
        })
    }

    /// Puts `command` at the tail, to be known as `id`. The device learns of it by [`ring`](Self::ring).
    #[inline]
    pub(super) fn submit(&mut self, memory: &DmaMemory, id: u16, command: &Command) {
        let at = u64::from(self.tail) * COMMAND_BYTES as u64;
        // It is in the memory: the queue was placed there.
        if let Ok(entry) = memory.segment(at, COMMAND_BYTES as u64) {
            entry.copy_from(&command.entry(id));
        }
        self.tail = self.after(self.tail);
    }

    /// Takes the next completion, if there is one.
    #[inline]
    pub(super) fn complete(&mut self) -> Option<Completion> {
        let completion = Completion::read(self.completions.at(self.head), self.phase)?;
        self.head = self.after(self.head);
        if self.head == 0 {
            self.phase = !self.phase;
        }
        Some(completion)
    }

    /// Tells the device what was submitted and what was taken since it was last told.
    #[inline]
    pub(super) fn ring(&mut self) {
        let [tail, head] = &self.doorbells;
        // Room for completions first, should the device need it for what comes.
        if self.told_head != self.head {
            self.told_head = self.head;
            head.ring(self.head);
        }
        if self.told_tail != self.tail {
            self.told_tail = self.tail;
            tail.ring(self.tail);
        }
    }

    #[inline]
    fn after(&self, index: u16) -> u16 {
        if index + 1 == self.entries {
            0
        } else {
            index + 1
        }
    }
}
