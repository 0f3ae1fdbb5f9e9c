//! The device side of a virtqueue: taking chains, returning them, and who must be told when.

mod chain;
mod descriptor;
mod event_index;
mod fault;
mod head;
mod split;

pub use chain::{Chain, Segments};
pub use descriptor::Descriptor;
pub use event_index::need_event;
pub use fault::DriverFault;
pub use head::Head;
pub use split::{Backlog, SetupError, SplitQueue};

use crate::mem::Iova;

/// Where a driver put a virtqueue, and what was negotiated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Entries, a power of two.
    pub size: u16,
    /// Descriptor area.
    pub descriptor_area: Iova,
    /// Driver area: the avail ring.
    pub driver_area: Iova,
    /// Device area: the used ring.
    pub device_area: Iova,
    /// Index of the first avail entry to take.
    pub next_avail: u16,
    /// VIRTIO_RING_F_INDIRECT_DESC.
    pub indirect: bool,
    /// VIRTIO_RING_F_EVENT_IDX.
    pub event_idx: bool,
}
