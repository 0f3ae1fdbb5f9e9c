//! The device side of a packed virtqueue (VIRTIO 1.3, 2.8).

use pollux_dataplane::driver::DriverMemory;
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::{QueueConfig, RingFeatures, RingState};

use super::{
    Device, INDIRECT, NEXT, Piece, Taken, WRITE, offset, read_u16, read_u32, read_u64, write_u16,
    write_u32,
};

const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;
const EVENT_ENABLE: u16 = 0;
const EVENT_DISABLE: u16 = 1;
const EVENT_DESC: u16 = 2;
/// The wrap counter beside a slot in 16 bits.
const WRAP: u16 = 1 << 15;

/// A slot of the ring and the wrap counter there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub slot: u16,
    pub wrap: bool,
}

impl Place {
    fn from_bits(bits: u16) -> Self {
        Self {
            slot: bits & !WRAP,
            wrap: bits & WRAP != 0,
        }
    }

    pub fn bits(self) -> u16 {
        self.slot | if self.wrap { WRAP } else { 0 }
    }

    /// Moves on by one slot.
    fn step(&mut self, size: u16) {
        self.slot += 1;
        if self.slot == size {
            self.slot = 0;
            self.wrap = !self.wrap;
        }
    }
}

/// A descriptor as it lies in memory (2.8.13).
struct Descriptor {
    address: u64,
    bytes: u32,
    id: u16,
    flags: u16,
}

fn descriptor(memory: &DriverMemory, at: Iova) -> Descriptor {
    Descriptor {
        address: read_u64(memory, at),
        bytes: read_u32(memory, offset(at, 8)),
        id: read_u16(memory, offset(at, 12)),
        flags: read_u16(memory, offset(at, 14)),
    }
}

impl Descriptor {
    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn piece(&self) -> Piece {
        (self.address, self.bytes, self.has(WRITE))
    }
}

/// The device.
#[derive(Debug)]
pub struct PackedDevice {
    config: QueueConfig,
    next_avail: Place,
    next_used: Place,
    /// Every place passed since the driver was last interrupted, or did not ask for it.
    passed: Vec<Place>,
    /// The length in used descriptors without WRITE, where it means nothing (2.8.4).
    pub reserved_length: u32,
}

impl PackedDevice {
    pub fn new(config: QueueConfig) -> Self {
        Self {
            next_avail: Place::from_bits(config.next_avail),
            next_used: Place::from_bits(config.next_used),
            config,
            passed: Vec::new(),
            reserved_length: 0,
        }
    }

    fn slot(&self, place: Place) -> Iova {
        offset(self.config.descriptor_area, 16 * u64::from(place.slot))
    }

    /// 2.8.1: AVAIL is as the wrap counter and USED is not.
    fn is_available(&self, memory: &DriverMemory) -> bool {
        let found = descriptor(memory, self.slot(self.next_avail));
        found.has(AVAIL) == self.next_avail.wrap && found.has(USED) != self.next_avail.wrap
    }

    fn event_idx(&self) -> bool {
        self.config.features.contains(RingFeatures::EVENT_IDX)
    }

    /// 2.8.7: as many descriptors as the table is long, one after the other; no flag but WRITE means
    /// anything in them.
    fn table(&self, memory: &DriverMemory, holder: &Descriptor) -> Vec<Piece> {
        assert!(self.config.features.contains(RingFeatures::INDIRECT_DESC));
        assert!(!holder.has(NEXT), "2.8.19: a list has no table in it");
        assert!(holder.bytes > 0 && holder.bytes.is_multiple_of(16));
        let entries = (0..u64::from(holder.bytes / 16)).map(|place| {
            let at = Iova(holder.address + 16 * place);
            let found = descriptor(memory, at);
            assert_eq!(found.flags & !WRITE, 0, "2.8.19: no flag but WRITE");
            found.piece()
        });
        entries.collect()
    }
}

impl Device for PackedDevice {
    fn state(&self) -> RingState {
        RingState {
            next_avail: self.next_avail.bits(),
            next_used: self.next_used.bits(),
        }
    }

    fn period(&self) -> u64 {
        2 * u64::from(self.config.size)
    }

    fn pop(&mut self, memory: &DriverMemory) -> Option<Taken> {
        if !self.is_available(memory) {
            return None;
        }
        let mut pieces = Vec::new();
        let mut steps = 0;
        loop {
            let found = descriptor(memory, self.slot(self.next_avail));
            let wrap = self.next_avail.wrap;
            let both = (found.has(AVAIL), found.has(USED));
            assert_eq!(both, (wrap, !wrap), "2.8.6: each has them right");
            self.next_avail.step(self.config.size);
            steps += 1;
            assert!(steps <= self.config.size, "2.8.17: no longer than the ring");
            if found.has(INDIRECT) {
                assert_eq!(steps, 1);
                pieces = self.table(memory, &found);
            } else {
                pieces.push(found.piece());
            }
            if !found.has(NEXT) {
                let id = found.id;
                return Some(Taken { id, steps, pieces });
            }
        }
    }

    fn give(&mut self, memory: &DriverMemory, batch: &[Taken], written: u32) {
        let last = batch.last().expect("a batch has a chain");
        let mut flags = 0;
        if self.next_used.wrap {
            flags |= AVAIL | USED;
        }
        let mut length = self.reserved_length;
        if written > 0 {
            flags |= WRITE;
            length = written;
        }
        let at = self.slot(self.next_used);
        write_u32(memory, offset(at, 8), length);
        write_u16(memory, offset(at, 12), last.id);
        write_u16(memory, offset(at, 14), flags);
        let steps: u16 = batch.iter().map(|chain| chain.steps).sum();
        for _ in 0..steps {
            self.passed.push(self.next_used);
            self.next_used.step(self.config.size);
        }
    }

    fn interrupt_settled(&mut self) {
        self.passed.clear();
    }

    fn interrupt_wanted(&self, memory: &DriverMemory) -> bool {
        let area = self.config.driver_area;
        let desc = read_u16(memory, area);
        match read_u16(memory, offset(area, 2)) & 3 {
            EVENT_ENABLE => !self.passed.is_empty(),
            EVENT_DISABLE => false,
            EVENT_DESC => {
                assert!(self.event_idx(), "2.8.10: only with EVENT_IDX");
                self.passed.contains(&Place::from_bits(desc))
            }
            reserved => panic!("2.8.10: {reserved} is reserved"),
        }
    }

    fn suppress_kicks(&self, memory: &DriverMemory) {
        write_u16(memory, offset(self.config.device_area, 2), EVENT_DISABLE);
    }

    fn request_kick(&self, memory: &DriverMemory) -> bool {
        let area = self.config.device_area;
        if self.event_idx() {
            write_u16(memory, area, self.next_avail.bits());
            write_u16(memory, offset(area, 2), EVENT_DESC);
        } else {
            write_u16(memory, offset(area, 2), EVENT_ENABLE);
        }
        self.is_available(memory)
    }
}
