//! What a device and the kernel may say to each other beyond the API version.

use crate::abi::{VDUSE_F_QUEUE_READY, VDUSE_F_SUSPEND};

bitflags::bitflags! {
    /// Protocol features of VDUSE (Linux 7.3), not to be taken for those of the VIRTIO device.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct ProtocolFeatures: u64 {
        /// The kernel tells when the driver enables or disables a virtqueue.
        const QUEUE_READY = 1 << VDUSE_F_QUEUE_READY;
        /// The device can be suspended, which takes a reset to end.
        const SUSPEND = 1 << VDUSE_F_SUSPEND;
        // What a newer kernel offers.
        const _ = !0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_kernels() {
        let known = ProtocolFeatures::QUEUE_READY | ProtocolFeatures::SUSPEND;
        assert_eq!(known.bits(), 3);
        // What is not known is kept, to be shown and masked.
        assert_eq!(ProtocolFeatures::from_bits_retain(7) & known, known);
    }
}
