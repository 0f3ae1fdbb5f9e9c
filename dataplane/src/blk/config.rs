//! The 96 bytes of `struct virtio_blk_config` (VIRTIO 1.3, 5.2.4).

use super::Geometry;
use crate::limits::{QUEUE_SIZE_MIN, RANGES_MAX, SEGMENT_BYTES_MAX, WRITE_ZEROES_RANGES_MAX};
use crate::ring::RingFeatures;

/// Bytes of the configuration space, the zoned part included: a driver that reads further gets zeros
/// from the kernel only since Linux 6.0.
pub const CONFIG_BYTES: usize = 96;

/// The configuration space of a device, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace([u8; CONFIG_BYTES]);

impl ConfigSpace {
    /// Returns the configuration of a device over `geometry` with `queues` queues of `queue_size`
    /// entries that offers `ring`.
    pub fn new(geometry: &Geometry, queues: u16, queue_size: u16, ring: RingFeatures) -> Self {
        let mut space = Self([0; CONFIG_BYTES]);
        let (offset, capacity) = Self::capacity(geometry);
        space.put(offset as usize, &capacity);
        space.put(8, &SEGMENT_BYTES_MAX.to_le_bytes());
        space.put(12, &u32::from(segments_max(queue_size, ring)).to_le_bytes());
        space.put(20, &geometry.block_bytes.to_le_bytes());
        space.put(24, &[geometry.physical_block_exponent]);
        let physical_block = 1_u16 << geometry.physical_block_exponent.min(15);
        space.put(26, &physical_block.to_le_bytes());
        space.put(28, &geometry.optimal_io_blocks.to_le_bytes());
        space.put(34, &queues.to_le_bytes());
        if geometry.discard_sectors_max > 0 {
            space.put(36, &geometry.discard_sectors_max.to_le_bytes());
            space.put(40, &(RANGES_MAX as u32).to_le_bytes());
            space.put(44, &(geometry.block_bytes / 512).to_le_bytes());
        }
        if geometry.secure_erase_sectors_max > 0 {
            space.put(60, &geometry.secure_erase_sectors_max.to_le_bytes());
            space.put(64, &(RANGES_MAX as u32).to_le_bytes());
            space.put(68, &(geometry.block_bytes / 512).to_le_bytes());
        }
        if geometry.write_zeroes_sectors_max > 0 {
            space.put(48, &geometry.write_zeroes_sectors_max.to_le_bytes());
            space.put(52, &(WRITE_ZEROES_RANGES_MAX as u32).to_le_bytes());
            space.put(56, &[u8::from(geometry.write_zeroes_may_unmap)]);
        }
        space
    }

    /// Returns where the size of the disk is, and its bytes: all that changes when a disk is resized. No limit
    /// here depends on it.
    pub fn capacity(geometry: &Geometry) -> (u32, [u8; 8]) {
        (0, geometry.capacity_sectors.to_le_bytes())
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Returns the bytes as a driver reads them.
    pub fn as_bytes(&self) -> &[u8; CONFIG_BYTES] {
        &self.0
    }
}

/// Returns how many data segments a request may have. A header and a status take two descriptors more. Through
/// an indirect table a chain takes one entry of the ring; otherwise eight of the longest should fit.
fn segments_max(queue_size: u16, ring: RingFeatures) -> u16 {
    let descriptors = if ring.contains(RingFeatures::INDIRECT_DESC) {
        queue_size
    } else {
        (queue_size / 8).max(QUEUE_SIZE_MIN)
    };
    descriptors.saturating_sub(2)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use virtio_bindings::virtio_blk::virtio_blk_config;

    pub(crate) fn geometry() -> Geometry {
        Geometry {
            capacity_sectors: 0x1234_5678_9abc,
            block_bytes: 4096,
            physical_block_exponent: 2,
            optimal_io_blocks: 64,
            read_only: false,
            volatile_cache: false,
            discard_sectors_max: 0x1000,
            write_zeroes_sectors_max: 0x2000,
            write_zeroes_may_unmap: true,
            secure_erase_sectors_max: 0x3000,
            serial: *b"0123456789abcdefghij",
        }
    }

    #[test]
    fn without_indirect_tables_eight_of_the_longest_requests_fit() {
        assert_eq!(segments_max(1024, RingFeatures::EVENT_IDX), 126);
        assert_eq!(segments_max(4, RingFeatures::empty()), 2);
        assert_eq!(segments_max(256, RingFeatures::INDIRECT_DESC), 254);
    }

    #[test]
    fn fields_lie_where_the_kernels_struct_has_them() {
        use std::mem::offset_of;
        let space = ConfigSpace::new(&geometry(), 3, 256, RingFeatures::INDIRECT_DESC);
        let bytes = space.as_bytes();
        let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        type C = virtio_blk_config;
        assert_eq!(size_of::<C>(), CONFIG_BYTES);
        assert_eq!(u64_at(offset_of!(C, capacity)), 0x1234_5678_9abc);
        assert_eq!(u32_at(offset_of!(C, size_max)), SEGMENT_BYTES_MAX);
        assert_eq!(u32_at(offset_of!(C, seg_max)), 254);
        assert_eq!(u32_at(offset_of!(C, blk_size)), 4096);
        assert_eq!(bytes[offset_of!(C, physical_block_exp)], 2);
        assert_eq!(u16_at(offset_of!(C, min_io_size)), 4);
        assert_eq!(u32_at(offset_of!(C, opt_io_size)), 64);
        assert_eq!(u16_at(offset_of!(C, num_queues)), 3);
        assert_eq!(u32_at(offset_of!(C, max_discard_sectors)), 0x1000);
        assert_eq!(u32_at(offset_of!(C, max_discard_seg)), 256);
        assert_eq!(u32_at(offset_of!(C, discard_sector_alignment)), 8);
        assert_eq!(u32_at(offset_of!(C, max_write_zeroes_sectors)), 0x2000);
        assert_eq!(u32_at(offset_of!(C, max_write_zeroes_seg)), 1);
        assert_eq!(bytes[offset_of!(C, write_zeroes_may_unmap)], 1);
        assert_eq!(u32_at(offset_of!(C, max_secure_erase_sectors)), 0x3000);
        assert_eq!(u32_at(offset_of!(C, max_secure_erase_seg)), 256);
        assert_eq!(u32_at(offset_of!(C, secure_erase_sector_alignment)), 8);
    }
}
