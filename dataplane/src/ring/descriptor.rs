//! One descriptor, decoded (VIRTIO 1.3, 2.7.5).

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use crate::mem::{Direction, Iova};

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_BYTES: usize = 16;

/// A private copy of a descriptor: what the driver does to the original later changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Start of the buffer or indirect table.
    pub address: Iova,
    /// Length in bytes.
    pub bytes: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    /// Decodes the two little-endian words of a descriptor.
    #[inline]
    pub fn from_words(address: u64, rest: u64) -> Self {
        Self {
            address: Iova(address),
            bytes: rest as u32,
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        }
    }

    /// Decodes a descriptor of an indirect table.
    #[inline]
    pub fn from_bytes(bytes: [u8; DESCRIPTOR_BYTES]) -> Self {
        let words = u128::from_le_bytes(bytes);
        Self::from_words(words as u64, (words >> 64) as u64)
    }

    #[inline]
    fn has(self, flag: u32) -> bool {
        u32::from(self.flags) & flag != 0
    }

    /// Returns the index of the next descriptor, if the chain goes on.
    #[inline]
    pub fn next(self) -> Option<u16> {
        self.has(VRING_DESC_F_NEXT).then_some(self.next)
    }

    /// Returns whether the buffer is a table of descriptors.
    #[inline]
    pub fn is_indirect(self) -> bool {
        self.has(VRING_DESC_F_INDIRECT)
    }

    /// Returns which way the buffer goes.
    #[inline]
    pub fn direction(self) -> Direction {
        if self.has(VRING_DESC_F_WRITE) {
            Direction::Writable
        } else {
            Direction::Readable
        }
    }
}
