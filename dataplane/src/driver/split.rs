//! The driver side of a split virtqueue (VIRTIO 1.3, 2.7.13).

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
    VRING_USED_F_NO_NOTIFY,
};

use super::batch::InOrder;
use super::buffer::writable_bytes;
use super::free_list::FreeList;
use super::indirect::IndirectTables;
use super::{Buffer, DriverMemory, Used};
use crate::mem::{Direction, Iova, SharedArray, SharedCell};
use crate::ring::{QueueConfig, RingFeatures, need_event};

/// What is remembered of the chain at a head.
#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    /// Its descriptors in the table, to be freed when it returns; 0 when none is at that head.
    descriptors: u16,
    /// Bytes that the device may write.
    writable: u32,
}

/// A split virtqueue from the driver's side.
#[derive(Debug)]
pub struct SplitDriver {
    config: QueueConfig,
    descriptors: SharedArray<[AtomicU64; 2]>,
    avail_flags: SharedCell<AtomicU16>,
    avail_idx: SharedCell<AtomicU16>,
    avail_ring: SharedArray<AtomicU16>,
    used_event: SharedCell<AtomicU16>,
    used_flags: SharedCell<AtomicU16>,
    used_idx: SharedCell<AtomicU16>,
    used_ring: SharedArray<[AtomicU32; 2]>,
    avail_event: SharedCell<AtomicU16>,
    free: FreeList,
    /// One a head.
    chains: Vec<Chain>,
    indirect_tables: Option<IndirectTables>,
    in_order: Option<InOrder>,
    next_avail: u16,
    kicked_avail: u16,
    next_used: u16,
}

impl SplitDriver {
    /// Lays a queue of `size` entries out in `memory`, to start at index 0.
    ///
    /// # Panics
    ///
    /// As [`starting_at`](Self::starting_at).
    pub fn new(memory: &mut DriverMemory, size: u16, features: RingFeatures) -> Self {
        Self::starting_at(memory, size, features, 0)
    }

    /// Lays a queue of `size` entries out in `memory`, to go on at index `start` of both rings.
    ///
    /// # Panics
    ///
    /// When `size` is no power of two or `memory` too small.
    pub fn starting_at(
        memory: &mut DriverMemory,
        size: u16,
        features: RingFeatures,
        start: u16,
    ) -> Self {
        let entries = u64::from(size);
        let descriptor_area = memory.allocate(16 * entries, 16);
        let driver_area = memory.allocate(6 + 2 * entries, 2);
        let device_area = memory.allocate(6 + 8 * entries, 4);
        let indirect = features.contains(RingFeatures::INDIRECT_DESC);
        let indirect_tables = indirect.then(|| IndirectTables::new(memory, size));
        let in_order = features.contains(RingFeatures::IN_ORDER);
        let table = memory.table();
        let both = Direction::Writable;
        let place = "ring memory was just allocated";
        let cell = |area: Iova, offset: u64| table.cell(Iova(area.0 + offset), both).expect(place);
        let queue = Self {
            config: QueueConfig {
                size,
                descriptor_area,
                driver_area,
                device_area,
                next_avail: start,
                next_used: start,
                features,
            },
            descriptors: table.array(descriptor_area, size, both).expect(place),
            avail_flags: cell(driver_area, 0),
            avail_idx: cell(driver_area, 2),
            avail_ring: table
                .array(Iova(driver_area.0 + 4), size, both)
                .expect(place),
            used_event: cell(driver_area, 4 + 2 * entries),
            used_flags: cell(device_area, 0),
            used_idx: cell(device_area, 2),
            used_ring: table
                .array(Iova(device_area.0 + 4), size, both)
                .expect(place),
            avail_event: cell(device_area, 4 + 8 * entries),
            free: FreeList::new(size),
            chains: vec![Chain::default(); usize::from(size)],
            indirect_tables,
            in_order: in_order.then(|| InOrder::new(size)),
            next_avail: start,
            kicked_avail: start,
            next_used: start,
        };
        queue.avail_idx.store(start, Ordering::Relaxed);
        queue.used_idx.store(start, Ordering::Relaxed);
        queue
    }

    /// Returns what the device needs to know.
    pub fn config(&self) -> QueueConfig {
        self.config
    }

    /// Adds a chain, not yet visible to the device: through an indirect table when the queue has them
    /// and the chain more than one buffer. Returns its head, or `None` when the queue has no room for it.
    #[inline]
    pub fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        let indirect = self.indirect_tables.is_some() && buffers.len() > 1;
        let needed = if indirect { 1 } else { buffers.len() };
        // 2.7.5.3.1: a chain in an indirect table is no longer than the queue either.
        let fits = (1..=usize::from(self.config.size)).contains(&buffers.len());
        if !fits {
            return None;
        }
        let descriptors = needed as u16;
        let head = self.free.take(descriptors)?;
        self.chains[usize::from(head)] = Chain {
            descriptors,
            writable: writable_bytes(buffers),
        };
        match &self.indirect_tables {
            Some(tables) if indirect => self.write_indirect(tables, head, buffers),
            _ => self.write_direct(head, buffers),
        }
        if let Some(in_order) = &mut self.in_order {
            in_order.lend(head);
        }
        self.make_available(head);
        Some(head)
    }

    fn write_direct(&mut self, head: u16, buffers: &[Buffer]) {
        let mut place = head;
        for (index, buffer) in (1..).zip(buffers) {
            let next = self.free.behind(place);
            let more = index < buffers.len();
            let (address, rest) = words(buffer, more.then_some(next));
            self.write_descriptor(place, address, rest);
            place = next;
        }
    }

    fn write_indirect(&self, tables: &IndirectTables, head: u16, buffers: &[Buffer]) {
        let descriptors = (1..).zip(buffers).map(|(next, buffer)| {
            let more = usize::from(next) < buffers.len();
            words(buffer, more.then_some(next))
        });
        let (table, bytes) = tables.write(head, descriptors);
        let flags = u64::from(VRING_DESC_F_INDIRECT) << 32;
        self.write_descriptor(head, table.0, u64::from(bytes) | flags);
    }

    /// Writes descriptor `index` as it is: what a hostile driver would do.
    #[inline]
    pub fn write_descriptor(&self, index: u16, address: u64, rest: u64) {
        let descriptor = self.descriptors.at(index);
        descriptor[0].store(address, Ordering::Relaxed);
        descriptor[1].store(rest, Ordering::Relaxed);
    }

    /// Puts `head` into the avail ring as it is, visible after the next [`publish`](Self::publish).
    #[inline]
    pub fn make_available(&mut self, head: u16) {
        self.avail_ring
            .at(self.next_avail)
            .store(head, Ordering::Relaxed);
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Shows the device everything added.
    #[inline]
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

    /// Takes the next chain that the device returned. Those of an in-order batch come one by one, oldest
    /// first (2.7.9).
    #[inline]
    pub fn poll(&mut self) -> Option<Used> {
        let next_used = self.next_used;
        let entry = || {
            // Acquire: pairs with the device's Release store of `used_idx`.
            if self.used_idx.load(Ordering::Acquire) == next_used {
                return None;
            }
            let element = self.used_ring.at(next_used);
            Some(Used {
                head: element[0].load(Ordering::Relaxed) as u16,
                written: element[1].load(Ordering::Relaxed),
            })
        };
        let used = match &mut self.in_order {
            Some(in_order) => {
                in_order.take(entry, |head| self.chains[usize::from(head)].writable)?
            }
            None => entry()?,
        };
        self.next_used = self.next_used.wrapping_add(1);
        self.free(used.head);
        Some(used)
    }

    /// Frees the descriptors of the chain at `head`, should it be one.
    fn free(&mut self, head: u16) {
        let Some(chain) = self.chains.get_mut(usize::from(head)) else {
            return;
        };
        let count = std::mem::take(&mut chain.descriptors);
        if self.in_order.is_some() {
            // 2.7.5: with IN_ORDER descriptors are used in the order of the table, round and round.
            self.free.give_last(head, count);
        } else {
            // The last ones used are still in the cache.
            self.free.give_first(head, count);
        }
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
