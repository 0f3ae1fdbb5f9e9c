//! A random driver that writes its rings byte by byte, so that it shares no code with any device.

#![allow(unreachable_pub)]

use std::collections::VecDeque;

use pollux_dataplane::driver::DriverMemory;
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::{QueueConfig, RingFeatures};
use proptest::prelude::*;
use virtio_bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};

const BUFFERS_MAX: usize = 8;
const DATA_BYTES: u32 = 1 << 16;

/// One buffer: address, length, whether the device writes it.
pub type Piece = (u64, u32, bool);

/// A chain to be made available.
#[derive(Clone, Debug)]
pub struct ChainPlan {
    /// Offset into the data area and length.
    pub buffers: Vec<(u32, u32)>,
    /// How many of the buffers the device reads.
    pub readable: usize,
    /// Descriptors before the indirect table; all of them when there is none.
    pub direct: usize,
}

/// What the driver and the device do in turn.
#[derive(Clone, Debug)]
pub struct Round {
    pub chains: Vec<ChainPlan>,
    pub take: usize,
    pub give: usize,
    pub order: u64,
    /// What the driver asks for, relative to `used_idx`.
    pub used_event: i16,
    pub no_interrupt: bool,
    pub arm: bool,
    pub suppress: bool,
}

fn chain_plan() -> impl Strategy<Value = ChainPlan> {
    let buffer = (0..DATA_BYTES - 8192, 1..8192_u32);
    (
        prop::collection::vec(buffer, 1..=BUFFERS_MAX),
        any::<u8>(),
        any::<u8>(),
    )
        .prop_map(|(buffers, readable, direct)| {
            let count = buffers.len();
            ChainPlan {
                readable: usize::from(readable) % (count + 1),
                direct: match direct % 3 {
                    0 => count,
                    1 => 0,
                    _ => usize::from(direct / 3) % count,
                },
                buffers,
            }
        })
}

prop_compose! {
    /// Any round.
    pub fn round()(
        chains in prop::collection::vec(chain_plan(), 0..8),
        take in 0..12_usize,
        give in 0..12_usize,
        order in any::<u64>(),
        used_event in -3..12_i16,
        no_interrupt in any::<bool>(),
        arm in any::<bool>(),
        suppress in any::<bool>(),
    ) -> Round {
        Round { chains, take, give, order, used_event, no_interrupt, arm, suppress }
    }
}

/// One queue of a driver.
pub struct Driver {
    pub memory: DriverMemory,
    pub config: QueueConfig,
    tables: Iova,
    data: Iova,
    avail_idx: u16,
    free: VecDeque<u16>,
    /// Descriptors of the chain at each head.
    chains: Vec<Vec<u16>>,
}

impl Driver {
    pub fn new(size: u16, start: u16, event_idx: bool) -> Self {
        let entries = u64::from(size);
        let mut memory = DriverMemory::new(1 << 20).unwrap();
        let descriptor_area = memory.allocate(16 * entries, 16);
        let driver_area = memory.allocate(6 + 2 * entries, 2);
        let tables = memory.allocate(entries * 16 * BUFFERS_MAX as u64, 16);
        let device_area = memory.allocate(6 + 8 * entries, 4);
        let data = memory.allocate(u64::from(DATA_BYTES), 4096);
        let mut features = RingFeatures::INDIRECT_DESC;
        features.set(RingFeatures::EVENT_IDX, event_idx);
        memory.write(Iova(driver_area.0 + 2), &start.to_le_bytes());
        memory.write(Iova(device_area.0 + 2), &start.to_le_bytes());
        Self {
            memory,
            config: QueueConfig {
                size,
                descriptor_area,
                driver_area,
                device_area,
                next_avail: start,
                next_used: 0,
                features,
            },
            tables,
            data,
            avail_idx: start,
            free: (0..size).collect(),
            chains: vec![Vec::new(); usize::from(size)],
        }
    }

    /// Makes `plan` available unless there are too few descriptors. Returns its head.
    pub fn add(&mut self, plan: &ChainPlan) -> Option<u16> {
        let has_table = plan.direct < plan.buffers.len();
        let needed = plan.direct + usize::from(has_table);
        if self.free.len() < needed {
            return None;
        }
        let indexes: Vec<u16> = self.free.drain(..needed).collect();
        let head = indexes[0];
        for (place, &index) in indexes.iter().enumerate() {
            let next = indexes.get(place + 1).copied();
            let at = Iova(self.config.descriptor_area.0 + 16 * u64::from(index));
            if place == plan.direct {
                self.add_table(at, head, plan);
            } else {
                self.add_buffer(at, plan, place, next);
            }
        }
        let slot = u64::from(self.avail_idx & (self.config.size - 1));
        let entry = Iova(self.config.driver_area.0 + 4 + 2 * slot);
        self.memory.write(entry, &head.to_le_bytes());
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.chains[usize::from(head)] = indexes;
        Some(head)
    }

    fn add_table(&mut self, at: Iova, head: u16, plan: &ChainPlan) {
        let table = self.tables.0 + u64::from(head) * 16 * BUFFERS_MAX as u64;
        let count = plan.buffers.len() - plan.direct;
        self.write_descriptor(at, table, 16 * count as u32, VRING_DESC_F_INDIRECT, 0);
        for place in 0..count {
            let next = (place + 1 < count).then_some(place as u16 + 1);
            let at = Iova(table + 16 * place as u64);
            self.add_buffer(at, plan, plan.direct + place, next);
        }
    }

    fn add_buffer(&mut self, at: Iova, plan: &ChainPlan, place: usize, next: Option<u16>) {
        let (address, bytes, writable) = self.piece(plan, place);
        let mut flags = if writable { VRING_DESC_F_WRITE } else { 0 };
        if next.is_some() {
            flags |= VRING_DESC_F_NEXT;
        }
        self.write_descriptor(at, address, bytes, flags, next.unwrap_or(0x5555));
    }

    fn write_descriptor(&self, at: Iova, address: u64, bytes: u32, flags: u32, next: u16) {
        self.memory.write(at, &address.to_le_bytes());
        self.memory.write(Iova(at.0 + 8), &bytes.to_le_bytes());
        let flags = flags as u16;
        self.memory.write(Iova(at.0 + 12), &flags.to_le_bytes());
        self.memory.write(Iova(at.0 + 14), &next.to_le_bytes());
    }

    fn piece(&self, plan: &ChainPlan, place: usize) -> Piece {
        let (offset, bytes) = plan.buffers[place];
        (
            self.data.0 + u64::from(offset),
            bytes,
            place >= plan.readable,
        )
    }

    pub fn pieces(&self, plan: &ChainPlan) -> Vec<Piece> {
        let places = 0..plan.buffers.len();
        places.map(|place| self.piece(plan, place)).collect()
    }

    pub fn write_driver_u16(&self, offset: u64, value: u16) {
        let at = Iova(self.config.driver_area.0 + offset);
        self.memory.write(at, &value.to_le_bytes());
    }

    pub fn publish(&self, round: &Round, used_idx: u16) {
        let flags = u16::from(round.no_interrupt) * VRING_AVAIL_F_NO_INTERRUPT as u16;
        self.write_driver_u16(0, flags);
        let used_event = used_idx.wrapping_add_signed(round.used_event);
        self.write_driver_u16(4 + 2 * u64::from(self.config.size), used_event);
        self.write_driver_u16(2, self.avail_idx);
    }

    /// Takes back the chain at `head`.
    pub fn free(&mut self, head: u16) {
        let chain = std::mem::take(&mut self.chains[usize::from(head)]);
        self.free.extend(chain);
    }

    pub fn device_area(&self) -> Vec<u8> {
        let bytes = 6 + 8 * usize::from(self.config.size);
        self.memory.read(self.config.device_area, bytes)
    }
}
