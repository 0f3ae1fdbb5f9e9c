//! The device side of a virtqueue: taking chains, returning them, and who must be told when.

mod chain;
mod descriptor;
mod event_index;
mod fault;
mod features;
mod head;
mod split;

pub use chain::{Chain, Segments};
pub use descriptor::Descriptor;
pub use event_index::need_event;
pub use fault::DriverFault;
pub use features::RingFeatures;
pub use head::Head;
pub use split::{Backlog, SetupError, SplitQueue};

use crate::mem::Iova;

/// Where a driver put a virtqueue, and what was negotiated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Entries: a power of two for a split ring.
    pub size: u16,
    /// Descriptor area: the descriptor table, or the ring of a packed queue.
    pub descriptor_area: Iova,
    /// Driver area: the avail ring, or the driver's event suppression.
    pub driver_area: Iova,
    /// Device area: the used ring, or the device's event suppression.
    pub device_area: Iova,
    /// The next chain to take. Split: the free-running index of its avail entry. Packed: the slot of its
    /// first descriptor, with the wrap counter in bit 15.
    pub next_avail: u16,
    /// Packed: the slot of the next used descriptor, with the wrap counter in bit 15. A split ring has this
    /// in its memory.
    pub next_used: u16,
    /// What was negotiated.
    pub features: RingFeatures,
}
