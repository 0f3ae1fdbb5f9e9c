//! Feature bits: what is offered, and what a driver may accept of it.

use virtio_bindings::virtio_blk as blk;
use virtio_bindings::virtio_config as virtio;

use super::Geometry;
use crate::ring::RingFeatures;

bitflags::bitflags! {
    /// Feature bits of VIRTIO 1.3, 5.2.3 and 6.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// `size_max` is valid.
        const SIZE_MAX = 1 << blk::VIRTIO_BLK_F_SIZE_MAX;
        /// `seg_max` is valid.
        const SEG_MAX = 1 << blk::VIRTIO_BLK_F_SEG_MAX;
        /// The disk is read-only.
        const RO = 1 << blk::VIRTIO_BLK_F_RO;
        /// `blk_size` is valid.
        const BLK_SIZE = 1 << blk::VIRTIO_BLK_F_BLK_SIZE;
        /// FLUSH works, and is needed for durability.
        const FLUSH = 1 << blk::VIRTIO_BLK_F_FLUSH;
        /// `topology` is valid.
        const TOPOLOGY = 1 << blk::VIRTIO_BLK_F_TOPOLOGY;
        /// `num_queues` is valid.
        const MQ = 1 << blk::VIRTIO_BLK_F_MQ;
        /// DISCARD works.
        const DISCARD = 1 << blk::VIRTIO_BLK_F_DISCARD;
        /// WRITE_ZEROES works.
        const WRITE_ZEROES = 1 << blk::VIRTIO_BLK_F_WRITE_ZEROES;
        /// Indirect descriptor tables.
        const INDIRECT_DESC = RingFeatures::INDIRECT_DESC.bits();
        /// Event indexes.
        const EVENT_IDX = RingFeatures::EVENT_IDX.bits();
        /// Packed virtqueues.
        const RING_PACKED = RingFeatures::RING_PACKED.bits();
        /// Chains are returned in order.
        const IN_ORDER = RingFeatures::IN_ORDER.bits();
        /// VIRTIO 1.0 or newer.
        const VERSION_1 = 1 << virtio::VIRTIO_F_VERSION_1;
        /// Addresses go through the platform's translation. VDUSE insists on it.
        const ACCESS_PLATFORM = 1 << virtio::VIRTIO_F_ACCESS_PLATFORM;
    }
}

/// Why a driver's choice of features cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Bits that were never offered.
    #[error("the driver accepted feature bits {0:#x}, which were not offered")]
    NotOffered(u64),
    /// Bits without which the device cannot work.
    #[error("the driver did not accept feature bits {0:#x}, which are needed")]
    Needed(u64),
}

impl Features {
    /// Bits that a driver must accept: rings are little-endian, and addresses are translated.
    const NEEDED: Self = Self::VERSION_1.union(Self::ACCESS_PLATFORM);

    /// Returns what a device with `queues` queues over `geometry` offers, of the features of virtqueues only
    /// `ring`.
    pub fn offered(geometry: &Geometry, queues: u16, ring: RingFeatures) -> Self {
        let always = Self::SIZE_MAX
            | Self::SEG_MAX
            | Self::BLK_SIZE
            | Self::TOPOLOGY
            | Self::from_bits_retain(ring.bits())
            | Self::NEEDED;
        let when = |condition, feature| if condition { feature } else { Self::empty() };
        let writable = !geometry.read_only;
        always
            | when(geometry.read_only, Self::RO)
            | when(geometry.volatile_cache, Self::FLUSH)
            | when(queues > 1, Self::MQ)
            | when(writable && geometry.discard_sectors_max > 0, Self::DISCARD)
            | when(
                writable && geometry.write_zeroes_sectors_max > 0,
                Self::WRITE_ZEROES,
            )
    }

    /// Returns the bits `accepted` by a driver out of `self`.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the device cannot be served with them; FEATURES_OK must then not be set.
    pub fn negotiate(self, accepted: u64) -> Result<Self, Refused> {
        let unknown = accepted & !self.bits();
        if unknown != 0 {
            return Err(Refused::NotOffered(unknown));
        }
        let accepted = Self::from_bits_retain(accepted);
        let missing = Self::NEEDED - accepted;
        if missing.is_empty() {
            Ok(accepted)
        } else {
            Err(Refused::Needed(missing.bits()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blk::config::tests::geometry;

    #[test]
    fn offers_what_the_disk_can_do() {
        let disk = geometry();
        let offered = Features::offered(&disk, 2, RingFeatures::empty());
        assert!(offered.contains(Features::MQ | Features::DISCARD | Features::WRITE_ZEROES));
        assert!(!offered.intersects(Features::RO | Features::FLUSH | Features::EVENT_IDX));
        let read_only = Geometry {
            read_only: true,
            volatile_cache: true,
            ..disk
        };
        let offered = Features::offered(&read_only, 1, RingFeatures::all());
        assert!(offered.contains(Features::RO | Features::FLUSH | Features::RING_PACKED));
        assert!(!offered.intersects(Features::MQ | Features::DISCARD | Features::WRITE_ZEROES));
    }

    #[test]
    fn refuses_bits_that_were_not_offered_and_the_lack_of_needed_ones() {
        let offered = Features::offered(&geometry(), 1, RingFeatures::EVENT_IDX);
        let packed = RingFeatures::RING_PACKED.bits();
        let refused = offered.negotiate(offered.bits() | packed);
        assert_eq!(refused, Err(Refused::NotOffered(packed)));
        let legacy = offered - Features::VERSION_1;
        let refused = offered.negotiate(legacy.bits());
        assert_eq!(refused, Err(Refused::Needed(Features::VERSION_1.bits())));
        let few = Features::VERSION_1 | Features::ACCESS_PLATFORM;
        assert_eq!(offered.negotiate(few.bits()), Ok(few));
    }
}
