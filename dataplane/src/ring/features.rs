//! What a driver and a device can agree on about a virtqueue.

use virtio_bindings::virtio_config::{VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

bitflags::bitflags! {
    /// The feature bits of VIRTIO 1.3, 6, that change how a virtqueue works.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RingFeatures: u64 {
        /// Indirect descriptor tables.
        const INDIRECT_DESC = 1 << VIRTIO_RING_F_INDIRECT_DESC;
        /// Each side says at which index it wants to be notified.
        const EVENT_IDX = 1 << VIRTIO_RING_F_EVENT_IDX;
        /// One ring of descriptors that both sides write, instead of three areas.
        const RING_PACKED = 1 << VIRTIO_F_RING_PACKED;
        /// Chains are returned in the order in which they were made available.
        const IN_ORDER = 1 << VIRTIO_F_IN_ORDER;
    }
}
