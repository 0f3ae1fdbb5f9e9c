//! What goes into a virtqueue and what comes back, in either format.

use crate::mem::{Direction, Iova};

/// One buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Where.
    pub address: Iova,
    /// How long.
    pub bytes: u32,
    /// Which way, seen from the device.
    pub direction: Direction,
}

impl Buffer {
    /// Returns a buffer that the device reads.
    pub fn readable(address: Iova, bytes: u32) -> Self {
        let direction = Direction::Readable;
        Self {
            address,
            bytes,
            direction,
        }
    }

    /// Returns a buffer that the device writes.
    pub fn writable(address: Iova, bytes: u32) -> Self {
        let direction = Direction::Writable;
        Self {
            address,
            bytes,
            direction,
        }
    }
}

/// Returns how many bytes the device may write into `buffers`.
pub(super) fn writable_bytes(buffers: &[Buffer]) -> u32 {
    let writable = |buffer: &&Buffer| buffer.direction == Direction::Writable;
    let bytes = buffers.iter().filter(writable).map(|buffer| buffer.bytes);
    bytes.fold(0, u32::saturating_add)
}

/// A chain that the device returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What `add` returned for it: its head in a split virtqueue, its buffer id in a packed one.
    pub head: u16,
    /// Bytes that the device wrote.
    pub written: u32,
}
