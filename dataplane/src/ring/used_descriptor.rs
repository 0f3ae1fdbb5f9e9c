//! What a packed ring gets back: a descriptor that tells which chain is used (VIRTIO 1.3, 2.8.1).

use virtio_bindings::virtio_ring::{
    VRING_DESC_F_WRITE, VRING_PACKED_DESC_F_AVAIL, VRING_PACKED_DESC_F_USED,
};

use super::{Done, Position};

/// Flags of a descriptor, in its second word.
pub(super) const AVAIL: u64 = 1 << (48 + VRING_PACKED_DESC_F_AVAIL);
pub(super) const USED: u64 = 1 << (48 + VRING_PACKED_DESC_F_USED);
const WRITE: u64 = (VRING_DESC_F_WRITE as u64) << 48;

/// A used descriptor and its place in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedDescriptor {
    /// Where it goes.
    pub slot: u16,
    /// Its second word, little-endian: bytes written, buffer ID and flags. The first word stays as it is.
    pub rest: u64,
}

impl UsedDescriptor {
    /// Returns the descriptor that returns `done` at `place`.
    #[inline]
    pub(super) fn new(place: Position, done: Done) -> Self {
        let (id, written) = done.returned();
        let lap = if place.wrap { AVAIL | USED } else { 0 };
        let write = if written > 0 { WRITE } else { 0 };
        Self {
            slot: place.slot,
            rest: u64::from(written) | u64::from(id) << 32 | lap | write,
        }
    }

    /// Returns the ID of the chain that it returns.
    #[inline]
    pub fn buffer_id(self) -> u16 {
        (self.rest >> 32) as u16
    }

    /// Returns whether the second word `rest` of its place shows that it was published there, on this lap of the
    /// ring or the driver's next one.
    pub(super) fn is_published(self, rest: u64) -> bool {
        rest & USED == self.rest & USED
    }
}
