//! Completion queue entries (NVM Express base specification 2.0, 3.3.3.2).

use std::sync::atomic::{AtomicU64, Ordering};

use super::status::Status;

/// A completion queue entry as it lies in memory: the result, and where and how the command ended.
pub(super) type Entry = [AtomicU64; 2];

/// A command that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Completion {
    /// The identifier of the command.
    pub(super) id: u16,
    pub(super) status: Status,
    /// Command specific: dword 0.
    pub(super) result: u32,
}

impl Completion {
    /// Returns what `entry` says if its phase is `phase`: before, it is of the lap before.
    #[inline]
    pub(super) fn read(entry: &Entry, phase: bool) -> Option<Self> {
        // The device writes the phase last or all at once, so what is read after it is of this lap too.
        let word = entry[1].load(Ordering::Acquire);
        if (word >> 48 & 1 == 1) != phase {
            return None;
        }
        Some(Self {
            id: (word >> 32) as u16,
            status: Status((word >> 49) as u16),
            result: entry[0].load(Ordering::Relaxed) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_once_its_phase_has_come_round() {
        let word = 0x4281_u64 << 49 | 1 << 48 | 0xbeef << 32 | 0x0007_0010;
        let entry = [AtomicU64::new(0xffff_ffff_0000_002a), AtomicU64::new(word)];
        assert_eq!(Completion::read(&entry, false), None);
        let expected = Completion {
            id: 0xbeef,
            status: Status(0x4281),
            result: 42,
        };
        assert_eq!(Completion::read(&entry, true), Some(expected));
    }
}
