//! The driver side of a split virtqueue (VIRTIO 1.3, 2.7.13).

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
    VRING_USED_F_NO_NOTIFY,
};

use super::DriverMemory;
use crate::mem::{Direction, Iova, SharedArray, SharedCell};
use crate::ring::{QueueConfig, RingFeatures, need_event};

/// One buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Where.
    pub address: Iova,
    /// How long.
    pub bytes: u32,
    /// Which way, seen from the device.
    pub direction: Direction,
}

/// A chain that the device returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its head, as [`SplitDriver::add`] returned it.
    pub head: u16,
    /// Bytes that the device wrote.
    pub written: u32,
}

/// A split virtqueue from the driver's side.
#[derive(Debug)]
pub struct SplitDriver {
    config: QueueConfig,
    descriptors: SharedArray<AtomicU64>,
    avail_flags: SharedCell<AtomicU16>,
    avail_idx: SharedCell<AtomicU16>,
    avail_ring: SharedArray<AtomicU16>,
    used_event: SharedCell<AtomicU16>,
    used_flags: SharedCell<AtomicU16>,
    used_idx: SharedCell<AtomicU16>,
    used_ring: SharedArray<AtomicU32>,
    avail_event: SharedCell<AtomicU16>,
    free: Vec<u16>,
    /// Descriptors of the chain at each head, to be freed when it returns.
    chains: Vec<Vec<u16>>,
    /// One indirect table a head, each as large as the queue.
    indirect_tables: Option<Iova>,
    next_avail: u16,
    kicked_avail: u16,
    next_used: u16,
}

impl SplitDriver {
    /// Lays a queue of `size` entries out in `memory`.
    ///
    /// # Panics
    ///
    /// When `size` is no power of two or `memory` too small.
    pub fn new(memory: &mut DriverMemory, size: u16, features: RingFeatures) -> Self {
        let entries = u64::from(size);
        let descriptor_area = memory.allocate(16 * entries, 16);
        let driver_area = memory.allocate(6 + 2 * entries, 2);
        let device_area = memory.allocate(6 + 8 * entries, 4);
        let indirect = features.contains(RingFeatures::INDIRECT_DESC);
        let indirect_tables = indirect.then(|| memory.allocate(16 * entries * entries, 16));
        let table = memory.table();
        let both = Direction::Writable;
        let place = "ring memory was just allocated";
        let cell = |area: Iova, offset: u64| table.cell(Iova(area.0 + offset), both).expect(place);
        Self {
            config: QueueConfig {
                size,
                descriptor_area,
                driver_area,
                device_area,
                next_avail: 0,
                next_used: 0,
                features,
            },
            descriptors: table.array(descriptor_area, size * 2, both).expect(place),
            avail_flags: cell(driver_area, 0),
            avail_idx: cell(driver_area, 2),
            avail_ring: table
                .array(Iova(driver_area.0 + 4), size, both)
                .expect(place),
            used_event: cell(driver_area, 4 + 2 * entries),
            used_flags: cell(device_area, 0),
            used_idx: cell(device_area, 2),
            used_ring: table
                .array(Iova(device_area.0 + 4), size * 2, both)
                .expect(place),
            avail_event: cell(device_area, 4 + 8 * entries),
            free: (0..size).rev().collect(),
            chains: vec![Vec::with_capacity(usize::from(size)); usize::from(size)],
            indirect_tables,
            next_avail: 0,
            kicked_avail: 0,
            next_used: 0,
        }
    }

    /// Returns what the device needs to know.
    pub fn config(&self) -> QueueConfig {
        self.config
    }

    /// Adds a chain, not yet visible to the device: through an indirect table when the queue has them
    /// and the chain more than one buffer. Returns its head, or `None` when the queue is full.
    pub fn add(&mut self, memory: &DriverMemory, buffers: &[Buffer]) -> Option<u16> {
        let indirect = self.indirect_tables.filter(|_| buffers.len() > 1);
        let needed = if indirect.is_some() { 1 } else { buffers.len() };
        if buffers.is_empty() || self.free.len() < needed {
            return None;
        }
        let head = *self.free.last()?;
        for _ in 0..needed {
            self.chains[usize::from(head)].extend(self.free.pop());
        }
        match indirect {
            Some(tables) => self.write_indirect(memory, tables, head, buffers),
            None => self.write_direct(head, buffers),
        }
        self.make_available(head);
        Some(head)
    }

    fn write_direct(&mut self, head: u16, buffers: &[Buffer]) {
        let chain = &self.chains[usize::from(head)];
        for (place, buffer) in buffers.iter().enumerate() {
            let next = chain.get(place + 1).copied();
            let (address, rest) = words(buffer, next);
            self.write_descriptor(chain[place], address, rest);
        }
    }

    fn write_indirect(&self, memory: &DriverMemory, tables: Iova, head: u16, buffers: &[Buffer]) {
        let entries = u64::from(self.config.size);
        let table = Iova(tables.0 + u64::from(head) * 16 * entries);
        for (place, buffer) in (0_u16..).zip(buffers) {
            let last = usize::from(place) + 1 == buffers.len();
            let (address, rest) = words(buffer, (!last).then_some(place + 1));
            let bytes = (u128::from(rest) << 64 | u128::from(address)).to_le_bytes();
            memory.write(Iova(table.0 + u64::from(place) * 16), &bytes);
        }
        let flags = u64::from(VRING_DESC_F_INDIRECT) << 32;
        self.write_descriptor(head, table.0, (16 * buffers.len() as u64) | flags);
    }

    /// Writes descriptor `index` as it is: what a hostile driver would do.
    pub fn write_descriptor(&self, index: u16, address: u64, rest: u64) {
        self.descriptors
            .at(index * 2)
            .store(address, Ordering::Relaxed);
        self.descriptors
            .at(index * 2 + 1)
            .store(rest, Ordering::Relaxed);
    }

    /// Puts `head` into the avail ring as it is, visible after the next [`publish`](Self::publish).
    pub fn make_available(&mut self, head: u16) {
        self.avail_ring
            .at(self.next_avail)
            .store(head, Ordering::Relaxed);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Shows the device everything added.
    pub fn publish(&self) {
        // Release: pairs with the device's Acquire load of `avail_idx`.
        self.avail_idx.store(self.next_avail, Ordering::Release);
    }

    /// Stores `avail_idx` as it is: what a hostile driver would do.
    pub fn write_avail_idx(&self, value: u16) {
        self.avail_idx.store(value, Ordering::Release);
    }

    /// Returns whether the device wants a kick for what was published since the last call.
    pub fn kick_wanted(&mut self) -> bool {
        let old = std::mem::replace(&mut self.kicked_avail, self.next_avail);
        // Pairs with the fence in the device's `request_kick`.
        fence(Ordering::SeqCst);
        if self.config.features.contains(RingFeatures::EVENT_IDX) {
            need_event(
                self.avail_event.load(Ordering::Relaxed),
                self.next_avail,
                old,
            )
        } else {
            let flags = self.used_flags.load(Ordering::Relaxed);
            old != self.next_avail && u32::from(flags) & VRING_USED_F_NO_NOTIFY == 0
        }
    }

    /// Takes the next chain that the device returned.
    pub fn poll(&mut self) -> Option<Used> {
        // Acquire: pairs with the device's Release store of `used_idx`.
        if self.used_idx.load(Ordering::Acquire) == self.next_used {
            return None;
        }
        let slot = (self.next_used & (self.config.size - 1)) * 2;
        let head = self.used_ring.at(slot).load(Ordering::Relaxed) as u16;
        let written = self.used_ring.at(slot + 1).load(Ordering::Relaxed);
        self.next_used = self.next_used.wrapping_add(1);
        let chain = self
            .chains
            .get_mut(usize::from(head))
            .map(std::mem::take)
            .unwrap_or_default();
        self.free.extend(chain.into_iter().rev());
        Some(Used { head, written })
    }

    /// Asks for an interrupt at the next completion. Returns whether one is there already.
    pub fn request_interrupt(&self) -> bool {
        self.avail_flags.store(0, Ordering::Relaxed);
        self.used_event.store(self.next_used, Ordering::Relaxed);
        // Pairs with the fence in the device's `interrupt_wanted`.
        fence(Ordering::SeqCst);
        self.used_idx.load(Ordering::Relaxed) != self.next_used
    }

    /// Asks for no interrupts: this side polls.
    pub fn suppress_interrupts(&self) {
        self.avail_flags
            .store(VRING_AVAIL_F_NO_INTERRUPT as u16, Ordering::Relaxed);
        self.used_event
            .store(self.next_used.wrapping_sub(1), Ordering::Relaxed);
    }
}

/// Returns the two little-endian words of a descriptor.
fn words(buffer: &Buffer, next: Option<u16>) -> (u64, u64) {
    let mut flags = 0;
    if buffer.direction == Direction::Writable {
        flags |= VRING_DESC_F_WRITE;
    }
    if next.is_some() {
        flags |= VRING_DESC_F_NEXT;
    }
    let next = u64::from(next.unwrap_or(0));
    (
        buffer.address.0,
        u64::from(buffer.bytes) | u64::from(flags) << 32 | next << 48,
    )
}
