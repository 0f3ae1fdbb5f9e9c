//! The device side of a split virtqueue (VIRTIO 1.3, 2.7).

use pollux_dataplane::driver::DriverMemory;
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::{QueueConfig, RingFeatures, RingState};

use super::{
    Device, INDIRECT, NEXT, Piece, Taken, WRITE, offset, read_u16, read_u32, read_u64, write_u16,
    write_u32,
};

const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// The device.
#[derive(Debug)]
pub struct SplitDevice {
    config: QueueConfig,
    next_avail: u16,
    next_used: u16,
    /// Every index passed since the driver was last interrupted, or did not ask for it.
    passed: Vec<u16>,
}

impl SplitDevice {
    pub fn new(config: QueueConfig) -> Self {
        Self {
            next_avail: config.next_avail,
            next_used: config.next_avail,
            config,
            passed: Vec::new(),
        }
    }

    fn slot(&self, index: u16) -> u64 {
        u64::from(index % self.config.size)
    }

    fn is_available(&self, memory: &DriverMemory) -> bool {
        read_u16(memory, offset(self.config.driver_area, 2)) != self.next_avail
    }

    fn event_idx(&self) -> bool {
        self.config.features.contains(RingFeatures::EVENT_IDX)
    }

    /// Follows a chain in the table of `size` entries at `table` (2.7.5).
    fn follow(&self, memory: &DriverMemory, table: Iova, size: u16, first: u16) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut index = first;
        loop {
            assert!(index < size && pieces.len() < usize::from(size));
            let at = offset(table, 16 * u64::from(index));
            let (address, bytes) = (read_u64(memory, at), read_u32(memory, offset(at, 8)));
            let flags = read_u16(memory, offset(at, 12));
            let next = read_u16(memory, offset(at, 14));
            if flags & INDIRECT != 0 {
                assert!(self.config.features.contains(RingFeatures::INDIRECT_DESC));
                assert_eq!(flags & NEXT, 0, "2.7.5.3.1: nothing behind a table");
                assert_eq!(table, self.config.descriptor_area, "no table in a table");
                let rest = self.follow(memory, Iova(address), (bytes / 16) as u16, 0);
                return [pieces, rest].concat();
            }
            pieces.push((address, bytes, flags & WRITE != 0));
            if flags & NEXT == 0 {
                return pieces;
            }
            if self.config.features.contains(RingFeatures::IN_ORDER) {
                let following = (index + 1) % size;
                assert_eq!(next, following, "2.7.5: in order, round and round");
            }
            index = next;
        }
    }
}

impl Device for SplitDevice {
    fn state(&self) -> RingState {
        RingState {
            next_avail: self.next_avail,
            next_used: self.next_used,
        }
    }

    fn period(&self) -> u64 {
        1 << 16
    }

    fn pop(&mut self, memory: &DriverMemory) -> Option<Taken> {
        if !self.is_available(memory) {
            return None;
        }
        let entry = 4 + 2 * self.slot(self.next_avail);
        let id = read_u16(memory, offset(self.config.driver_area, entry));
        self.next_avail = self.next_avail.wrapping_add(1);
        let (table, size) = (self.config.descriptor_area, self.config.size);
        let pieces = self.follow(memory, table, size, id);
        let steps = 1;
        Some(Taken { id, steps, pieces })
    }

    fn give(&mut self, memory: &DriverMemory, batch: &[Taken], written: u32) {
        let last = batch.last().expect("a batch has a chain");
        let area = self.config.device_area;
        let element = offset(area, 4 + 8 * self.slot(self.next_used));
        write_u32(memory, element, u32::from(last.id));
        write_u32(memory, offset(element, 4), written);
        for _ in batch {
            self.passed.push(self.next_used);
            self.next_used = self.next_used.wrapping_add(1);
        }
        write_u16(memory, offset(area, 2), self.next_used);
    }

    fn interrupt_settled(&mut self) {
        self.passed.clear();
    }

    fn interrupt_wanted(&self, memory: &DriverMemory) -> bool {
        let area = self.config.driver_area;
        if self.event_idx() {
            let entries = u64::from(self.config.size);
            let used_event = read_u16(memory, offset(area, 4 + 2 * entries));
            self.passed.contains(&used_event)
        } else {
            !self.passed.is_empty() && read_u16(memory, area) & NO_INTERRUPT == 0
        }
    }

    fn suppress_kicks(&self, memory: &DriverMemory) {
        let area = self.config.device_area;
        if self.event_idx() {
            let avail_event = offset(area, 4 + 8 * u64::from(self.config.size));
            let before = self.config.size.wrapping_add(1);
            write_u16(memory, avail_event, self.next_avail.wrapping_sub(before));
        } else {
            write_u16(memory, area, NO_NOTIFY);
        }
    }

    fn request_kick(&self, memory: &DriverMemory) -> bool {
        let area = self.config.device_area;
        if self.event_idx() {
            let avail_event = offset(area, 4 + 8 * u64::from(self.config.size));
            write_u16(memory, avail_event, self.next_avail);
        } else {
            write_u16(memory, area, 0);
        }
        self.is_available(memory)
    }
}
