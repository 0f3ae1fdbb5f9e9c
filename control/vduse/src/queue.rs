//! What the driver made of a virtqueue.

use crate::abi::{VduseVqInfo, VduseVqStatePacked};

/// A virtqueue as the driver set it up (`VDUSE_VQ_GET_INFO`).
///
/// The indices are where the driver wants the device to start, not its progress: the kernel does
/// not follow a running queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueInfo {
    /// Descriptors in the ring; 0 while the queue is not ready.
    pub size: u32,
    /// IOVA of the descriptor area.
    pub descriptor_area: u64,
    /// IOVA of the driver area: available ring, or driver event suppression.
    pub driver_area: u64,
    /// IOVA of the device area: used ring, or device event suppression.
    pub device_area: u64,
    /// Split ring: the next available entry to fetch. Meaningless for a packed ring.
    pub avail_index: u16,
    /// Packed ring: where both rings stand. Meaningless for a split ring.
    pub packed: PackedState,
    /// The driver has made the queue ready.
    pub ready: bool,
}

/// Where a packed ring stands: an index and a wrap counter in either direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackedState {
    /// Wrap counter of the descriptors made available.
    pub last_avail_counter: bool,
    /// Next descriptor to fetch.
    pub last_avail_index: u16,
    /// Wrap counter of the descriptors used.
    pub last_used_counter: bool,
    /// Next descriptor to write back.
    pub last_used_index: u16,
}

impl From<VduseVqStatePacked> for PackedState {
    fn from(state: VduseVqStatePacked) -> Self {
        Self {
            last_avail_counter: state.last_avail_counter & 1 == 1,
            last_avail_index: state.last_avail_idx,
            last_used_counter: state.last_used_counter & 1 == 1,
            last_used_index: state.last_used_idx,
        }
    }
}

impl From<VduseVqInfo> for QueueInfo {
    fn from(info: VduseVqInfo) -> Self {
        Self {
            size: info.num,
            descriptor_area: info.desc_addr,
            driver_area: info.driver_addr,
            device_area: info.device_addr,
            // The split state is the first 16 bits of the union.
            avail_index: info.state.last_avail_counter,
            packed: info.state.into(),
            ready: info.ready != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_states_are_read_from_the_union() {
        let state = VduseVqStatePacked {
            last_avail_counter: 1,
            last_avail_idx: 7,
            last_used_counter: 0,
            last_used_idx: 5,
        };
        let info = QueueInfo::from(VduseVqInfo {
            num: 256,
            state,
            ready: 1,
            ..Default::default()
        });
        assert_eq!((info.size, info.avail_index, info.ready), (256, 1, true));
        let packed = PackedState {
            last_avail_counter: true,
            last_avail_index: 7,
            last_used_counter: false,
            last_used_index: 5,
        };
        assert_eq!(info.packed, packed);
    }
}
