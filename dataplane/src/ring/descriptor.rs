//! One descriptor, decoded (VIRTIO 1.3, 2.7.5 and 2.8.13).

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use crate::mem::{Direction, Iova};

/// A private copy of a descriptor: what the driver does to the original later changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Start of the buffer or indirect table.
    pub address: Iova,
    /// Length in bytes.
    pub bytes: u32,
    flags: u16,
    /// Split: the index of the next descriptor. Packed: the buffer ID.
    link: u16,
}

impl Descriptor {
    /// Decodes the two little-endian words of a descriptor of a split ring.
    #[inline]
    pub fn from_split(address: u64, rest: u64) -> Self {
        Self {
            address: Iova(address),
            bytes: rest as u32,
            flags: (rest >> 32) as u16,
            link: (rest >> 48) as u16,
        }
    }

    /// Decodes the two little-endian words of a descriptor of a packed ring.
    #[inline]
    pub fn from_packed(address: u64, rest: u64) -> Self {
        Self {
            address: Iova(address),
            bytes: rest as u32,
            flags: (rest >> 48) as u16,
            link: (rest >> 32) as u16,
        }
    }

    /// Encodes it as a descriptor of a split ring, with `link` for what follows or, at a chain's end, what names it.
    pub fn to_split(self, link: u16) -> [u64; 2] {
        let flags = u64::from(self.flags) << 32;
        [
            self.address.0,
            u64::from(self.bytes) | flags | u64::from(link) << 48,
        ]
    }

    #[inline]
    fn has(self, flag: u32) -> bool {
        u32::from(self.flags) & flag != 0
    }

    /// Returns the index of the next descriptor of a split ring, if the chain goes on.
    #[inline]
    pub fn next(self) -> Option<u16> {
        self.has_next().then_some(self.link)
    }

    /// Returns whether the chain goes on.
    #[inline]
    pub fn has_next(self) -> bool {
        self.has(VRING_DESC_F_NEXT)
    }

    /// Returns the ID of the chain that this descriptor of a packed ring ends.
    #[inline]
    pub fn buffer_id(self) -> u16 {
        self.link
    }

    /// Returns whether it is a buffer, not a table, that the device may read.
    #[inline]
    pub(super) fn is_readable_buffer(self) -> bool {
        !self.has(VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)
    }

    /// Returns whether it is a buffer, not a table, that the device may write.
    #[inline]
    pub(super) fn is_writable_buffer(self) -> bool {
        u32::from(self.flags) & (VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT) == VRING_DESC_F_WRITE
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
