//! Feature bits: what is offered, and what a driver may accept of it.

use virtio_bindings::virtio_blk as blk;
use virtio_bindings::virtio_config as virtio;

use super::{Geometry, SECTOR_BYTES};
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
        /// SECURE_ERASE works.
        const SECURE_ERASE = 1 << blk::VIRTIO_BLK_F_SECURE_ERASE;
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
    #[error("the driver accepted {}, which this device does not offer", names(*.0))]
    NotOffered(u64),
    /// Bits without which the device cannot be served.
    #[error("the driver did not accept {}, which this device needs", names(*.0))]
    Needed(u64),
}

/// Returns the names of feature bits, such as `VERSION_1 (bit 32), bit 40`.
fn names(bits: u64) -> String {
    let set = (0..u64::BITS).filter(|bit| bits & (1 << bit) != 0);
    let named = set.map(|bit| {
        let feature = Features::from_bits_retain(1 << bit);
        let name = feature.iter_names().next();
        name.map_or_else(
            || format!("bit {bit}"),
            |(name, _)| format!("{name} (bit {bit})"),
        )
    });
    named.collect::<Vec<_>>().join(", ")
}

impl Features {
    /// Bits that every driver must accept: rings are little-endian, and addresses are translated.
    const NEEDED: Self = Self::VERSION_1.union(Self::ACCESS_PLATFORM);

    /// Returns what a driver of a disk over `geometry` must accept. One that does not know of larger blocks than
    /// sectors would ask for parts of them, and each such request would fail.
    pub fn needed(geometry: &Geometry) -> Self {
        if u64::from(geometry.block_bytes) > SECTOR_BYTES {
            Self::NEEDED | Self::BLK_SIZE
        } else {
            Self::NEEDED
        }
    }

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
            | when(
                writable && geometry.secure_erase_sectors_max > 0,
                Self::SECURE_ERASE,
            )
    }

    /// Returns the bits `accepted` by a driver out of `self`, with all that are `needed`.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the device cannot be served with them; FEATURES_OK must then not be set.
    pub fn negotiate(self, accepted: u64, needed: Self) -> Result<Self, Refused> {
        let unknown = accepted & !self.bits();
        if unknown != 0 {
            return Err(Refused::NotOffered(unknown));
        }
        let accepted = Self::from_bits_retain(accepted);
        let missing = needed - accepted;
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
        let erasing = Features::DISCARD | Features::WRITE_ZEROES | Features::SECURE_ERASE;
        assert!(offered.contains(Features::MQ | erasing));
        assert!(!offered.intersects(Features::RO | Features::FLUSH | Features::EVENT_IDX));
        let read_only = Geometry {
            read_only: true,
            volatile_cache: true,
            ..disk
        };
        let offered = Features::offered(&read_only, 1, RingFeatures::all());
        assert!(offered.contains(Features::RO | Features::FLUSH | Features::RING_PACKED));
        assert!(!offered.intersects(Features::MQ | erasing));
    }

    #[test]
    fn refuses_bits_that_were_not_offered_and_the_lack_of_needed_ones() {
        let offered = Features::offered(&geometry(), 1, RingFeatures::EVENT_IDX);
        let negotiate = |accepted| offered.negotiate(accepted, Features::NEEDED);
        let packed = RingFeatures::RING_PACKED.bits();
        let refused = negotiate(offered.bits() | packed);
        assert_eq!(refused, Err(Refused::NotOffered(packed)));
        let legacy = offered - Features::VERSION_1;
        let refused = negotiate(legacy.bits());
        assert_eq!(refused, Err(Refused::Needed(Features::VERSION_1.bits())));
        let few = Features::VERSION_1 | Features::ACCESS_PLATFORM;
        assert_eq!(negotiate(few.bits()), Ok(few));
    }

    #[test]
    fn large_blocks_are_for_drivers_that_know_of_them() {
        let offered = Features::offered(&geometry(), 1, RingFeatures::empty());
        let small = Geometry {
            block_bytes: 512,
            ..geometry()
        };
        let few = Features::VERSION_1 | Features::ACCESS_PLATFORM;
        let few = few.bits();
        assert!(offered.negotiate(few, Features::needed(&small)).is_ok());
        let needed = Features::needed(&geometry());
        let refused = offered.negotiate(few, needed).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the driver did not accept BLK_SIZE (bit 6), which this device needs"
        );
        let enough = few | Features::BLK_SIZE.bits();
        assert!(offered.negotiate(enough, needed).is_ok());
    }

    #[test]
    fn bits_are_named_when_they_have_a_name() {
        let bits = 1 | Features::RO.bits() | Features::RING_PACKED.bits() | 1 << 40 | 1 << 63;
        assert_eq!(
            names(bits),
            "bit 0, RO (bit 5), RING_PACKED (bit 34), bit 40, bit 63"
        );
    }
}
