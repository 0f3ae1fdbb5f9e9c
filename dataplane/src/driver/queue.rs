//! The driver side of a virtqueue in whichever format was negotiated.

use super::{Buffer, DriverMemory, PackedDriver, SplitDriver, Used};
use crate::ring::{QueueConfig, RingFeatures};

/// A virtqueue from the driver's side.
#[derive(Debug)]
pub enum QueueDriver {
    /// A descriptor table, an avail ring and a used ring (VIRTIO 1.3, 2.7).
    Split(SplitDriver),
    /// One ring of descriptors (VIRTIO 1.3, 2.8).
    Packed(PackedDriver),
}

impl QueueDriver {
    /// Lays a queue of `size` entries out in `memory`: a packed one with
    /// [`RING_PACKED`](RingFeatures::RING_PACKED), a split one without.
    ///
    /// # Panics
    ///
    /// When `size` is no power of two or `memory` too small.
    pub fn new(memory: &mut DriverMemory, size: u16, features: RingFeatures) -> Self {
        if features.contains(RingFeatures::RING_PACKED) {
            Self::Packed(PackedDriver::new(memory, size, features))
        } else {
            Self::Split(SplitDriver::new(memory, size, features))
        }
    }

    /// Lays a queue out as [`new`](Self::new) does, to go on at `start`: an index of a split queue; a slot
    /// with the wrap counter in bit 15 of a packed one.
    ///
    /// # Panics
    ///
    /// When `size` is no power of two or `memory` too small.
    pub fn starting_at(
        memory: &mut DriverMemory,
        size: u16,
        features: RingFeatures,
        start: u16,
    ) -> Self {
        if features.contains(RingFeatures::RING_PACKED) {
            Self::Packed(PackedDriver::starting_at(memory, size, features, start))
        } else {
            Self::Split(SplitDriver::starting_at(memory, size, features, start))
        }
    }

    /// Returns what the device needs to know.
    pub fn config(&self) -> QueueConfig {
        match self {
            Self::Split(queue) => queue.config(),
            Self::Packed(queue) => queue.config(),
        }
    }

    /// Adds a chain, not yet visible to the device: through an indirect table when the queue has them
    /// and the chain more than one buffer. Returns its head or buffer id, below the size of the queue, or
    /// `None` when the queue has no room for it.
    #[inline]
    pub fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        match self {
            Self::Split(queue) => queue.add(buffers),
            Self::Packed(queue) => queue.add(buffers),
        }
    }

    /// Shows the device everything added.
    #[inline]
    pub fn publish(&mut self) {
        match self {
            Self::Split(queue) => queue.publish(),
            Self::Packed(queue) => queue.publish(),
        }
    }

    /// Returns whether the device wants a kick for what was published since the last call.
    pub fn kick_wanted(&mut self) -> bool {
        match self {
            Self::Split(queue) => queue.kick_wanted(),
            Self::Packed(queue) => queue.kick_wanted(),
        }
    }

    /// Takes the next chain that the device returned. Those of an in-order batch come one by one, oldest
    /// first.
    #[inline]
    pub fn poll(&mut self) -> Option<Used> {
        match self {
            Self::Split(queue) => queue.poll(),
            Self::Packed(queue) => queue.poll(),
        }
    }

    /// Asks for an interrupt at the next completion. Returns whether one is there already.
    pub fn request_interrupt(&self) -> bool {
        match self {
            Self::Split(queue) => queue.request_interrupt(),
            Self::Packed(queue) => queue.request_interrupt(),
        }
    }

    /// Asks for no interrupts: this side polls.
    pub fn suppress_interrupts(&self) {
        match self {
            Self::Split(queue) => queue.suppress_interrupts(),
            Self::Packed(queue) => queue.suppress_interrupts(),
        }
    }
}
