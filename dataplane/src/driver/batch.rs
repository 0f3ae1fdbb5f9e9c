//! In-order use of descriptors (VIRTIO 1.3, 2.7.9 and 2.8.8): one used entry may stand for a batch of
//! chains, and names the last of them.

use std::collections::VecDeque;

use super::Used;

/// The chains that an in-order device has, oldest first, and the batch that is being taken back.
#[derive(Debug)]
pub(super) struct InOrder {
    lent: VecDeque<u16>,
    /// Chains of the batch not yet taken back.
    left: usize,
    /// What the device wrote into the last one.
    written: u32,
}

impl InOrder {
    /// Returns one with room for `size` chains.
    pub(super) fn new(size: u16) -> Self {
        Self {
            lent: VecDeque::with_capacity(usize::from(size)),
            left: 0,
            written: 0,
        }
    }

    /// Notes that the chain at `head` goes to the device.
    pub(super) fn lend(&mut self, head: u16) {
        self.lent.push_back(head);
    }

    /// Returns whether chains of a batch are left to be taken back.
    pub(super) fn in_batch(&self) -> bool {
        self.left > 0
    }

    /// Takes the next chain of the batch back; that of `entry`, the next used entry, when the last batch
    /// is over. Chains before the last one of a batch were used completely: they are filled with all
    /// that `writable` says they have room for. An entry that names no chain is passed on as it is.
    pub(super) fn take(
        &mut self,
        entry: impl FnOnce() -> Option<Used>,
        writable: impl FnOnce(u16) -> u32,
    ) -> Option<Used> {
        if self.left == 0 {
            let last = entry()?;
            let Some(place) = self.lent.iter().position(|&head| head == last.head) else {
                return Some(last);
            };
            self.left = place + 1;
            self.written = last.written;
        }
        self.left -= 1;
        let head = self.lent.pop_front()?;
        let written = if self.left == 0 {
            self.written
        } else {
            writable(head)
        };
        Some(Used { head, written })
    }
}
