//! The driver side of a packed virtqueue (VIRTIO 1.3, 2.8).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_PACKED_DESC_F_AVAIL,
    VRING_PACKED_DESC_F_USED, VRING_PACKED_EVENT_F_WRAP_CTR, VRING_PACKED_EVENT_FLAG_DESC,
    VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use super::batch::InOrder;
use super::buffer::writable_bytes;
use super::indirect::IndirectTables;
use super::lap::Lap;
use super::{Buffer, DriverMemory, Used};
use crate::mem::{Direction, Iova, SharedArray, SharedCell};
use crate::ring::{QueueConfig, RingFeatures};

/// The bit in `flags` that an available descriptor has as the driver's wrap counter (2.8.1).
const AVAIL: u16 = 1 << VRING_PACKED_DESC_F_AVAIL;
/// The bit in `flags` that a used descriptor has as the device's wrap counter (2.8.1).
const USED: u16 = 1 << VRING_PACKED_DESC_F_USED;

/// What is remembered of the chain with a buffer id.
#[derive(Clone, Copy, Debug, Default)]
struct Chain {
    /// Slots that it takes; 0 when the id is free.
    descriptors: u16,
    /// Bytes that the device may write.
    writable: u32,
}

/// A packed virtqueue from the driver's side.
#[derive(Debug)]
pub struct PackedDriver {
    config: QueueConfig,
    /// Two words a descriptor: address; length, buffer id and flags.
    descriptors: SharedArray<[AtomicU64; 2]>,
    /// The driver's event suppression structure: `desc`, then `flags`.
    driver_event: SharedCell<AtomicU32>,
    /// The device's.
    device_event: SharedCell<AtomicU32>,
    free_slots: u16,
    free_ids: Vec<u16>,
    /// One a buffer id.
    chains: Vec<Chain>,
    indirect_tables: Option<IndirectTables>,
    in_order: Option<InOrder>,
    next_avail: Lap,
    /// Slot and second word of the first descriptor added since the last publication.
    withheld: Option<(u16, u64)>,
    /// The first slot that the device was not yet kicked for, and how many they are.
    unkicked: (Lap, u32),
    next_used: Lap,
}

impl PackedDriver {
    /// Lays a queue of `size` entries out in `memory`, to start at slot 0 with wrap counter 1.
    ///
    /// # Panics
    ///
    /// As [`starting_at`](Self::starting_at).
    pub fn new(memory: &mut DriverMemory, size: u16, features: RingFeatures) -> Self {
        Self::starting_at(memory, size, features, 1 << VRING_PACKED_EVENT_F_WRAP_CTR)
    }

    /// Lays a queue of `size` entries out in `memory`, to go on at `start`, a slot with the wrap counter in
    /// bit 15.
    ///
    /// # Panics
    ///
    /// When `memory` is too small or `size` no power of two: the specification allows others, the shared
    /// array does not.
    pub fn starting_at(
        memory: &mut DriverMemory,
        size: u16,
        features: RingFeatures,
        start: u16,
    ) -> Self {
        let descriptor_area = memory.allocate(16 * u64::from(size), 16);
        let driver_area = memory.allocate(4, 4);
        let device_area = memory.allocate(4, 4);
        let indirect = features.contains(RingFeatures::INDIRECT_DESC);
        let indirect_tables = indirect.then(|| IndirectTables::new(memory, size));
        let in_order = features.contains(RingFeatures::IN_ORDER);
        let table = memory.table();
        let both = Direction::Writable;
        let place = "ring memory was just allocated";
        let start = Lap::from_bits(start, size);
        let queue = Self {
            config: QueueConfig {
                size,
                descriptor_area,
                driver_area,
                device_area,
                next_avail: start.bits(),
                next_used: start.bits(),
                features,
            },
            descriptors: table.array(descriptor_area, size, both).expect(place),
            driver_event: table.cell(driver_area, both).expect(place),
            device_event: table.cell(device_area, both).expect(place),
            free_slots: size,
            free_ids: (0..size).rev().collect(),
            chains: vec![Chain::default(); usize::from(size)],
            indirect_tables,
            in_order: in_order.then(|| InOrder::new(size)),
            next_avail: start,
            withheld: None,
            unkicked: (start, 0),
            next_used: start,
        };
        // What a driver that came this far left behind: everything used, and nothing on this lap.
        for ahead in 0..size {
            let slot = start.forward(ahead);
            let used = if slot.wrap() { 0 } else { AVAIL | USED };
            queue.write_descriptor(slot.slot(), 0, rest(0, 0, used));
        }
        queue
    }

    /// Returns what the device needs to know.
    pub fn config(&self) -> QueueConfig {
        self.config
    }

    /// Adds a chain, not yet visible to the device: through an indirect table when the queue has them
    /// and the chain more than one buffer. Returns its buffer id, or `None` when the queue has no room
    /// for it.
    #[inline]
    pub fn add(&mut self, buffers: &[Buffer]) -> Option<u16> {
        let indirect = self.indirect_tables.is_some() && buffers.len() > 1;
        let needed = if indirect { 1 } else { buffers.len() };
        // 2.8.17: no list is longer than the queue, one in a table included.
        let fits = (1..=usize::from(self.config.size)).contains(&buffers.len());
        if !fits || usize::from(self.free_slots) < needed {
            return None;
        }
        // An id for each slot, so where there is a slot there is an id.
        let id = self.free_ids.pop()?;
        let chain = Chain {
            descriptors: needed as u16,
            writable: writable_bytes(buffers),
        };
        self.chains[usize::from(id)] = chain;
        self.free_slots -= chain.descriptors;
        match &self.indirect_tables {
            Some(tables) if indirect => {
                // 2.8.19: no flag but WRITE; the descriptors follow one another.
                let descriptors = buffers.iter().map(|buffer| {
                    let rest = rest(buffer.bytes, 0, write_flag(buffer));
                    (buffer.address.0, rest)
                });
                let (table, bytes) = tables.write(id, descriptors);
                self.write_indirect(id, table, bytes);
            }
            _ => self.write_direct(id, buffers),
        }
        if let Some(in_order) = &mut self.in_order {
            in_order.lend(id);
        }
        self.unkicked.1 = self.unkicked.1.saturating_add(needed as u32);
        Some(id)
    }

    fn write_direct(&mut self, id: u16, buffers: &[Buffer]) {
        let first = self.next_avail;
        for (place, buffer) in (0..).zip(buffers) {
            let mut flags = write_flag(buffer);
            if usize::from(place) + 1 < buffers.len() {
                flags |= VRING_DESC_F_NEXT as u16;
            }
            let at = first.forward(place);
            self.make_available(at, buffer.address, buffer.bytes, id, flags);
        }
        self.next_avail = first.forward(buffers.len() as u16);
    }

    fn write_indirect(&mut self, id: u16, table: Iova, bytes: u32) {
        let flags = VRING_DESC_F_INDIRECT as u16;
        self.make_available(self.next_avail, table, bytes, id, flags);
        self.next_avail = self.next_avail.forward(1);
    }

    /// Writes a descriptor with the flags of an available one. Those of the first one since the last
    /// publication are kept back: until they are there the device looks at no other (2.8.6).
    #[inline]
    fn make_available(&mut self, at: Lap, address: Iova, bytes: u32, id: u16, flags: u16) {
        let wrap = if at.wrap() { AVAIL } else { USED };
        let rest = rest(bytes, id, flags | wrap);
        let descriptor = self.descriptors.at(at.slot());
        descriptor[0].store(address.0, Ordering::Relaxed);
        if self.withheld.is_none() {
            self.withheld = Some((at.slot(), rest));
        } else {
            descriptor[1].store(rest, Ordering::Relaxed);
        }
    }

    /// Shows the device everything added.
    #[inline]
    pub fn publish(&mut self) {
        if let Some((slot, rest)) = self.withheld.take() {
            // Release: pairs with the device's Acquire load of a descriptor's flags. Everything behind
            // this descriptor is seen with it.
            self.descriptors.at(slot)[1].store(rest, Ordering::Release);
        }
    }

    /// Writes descriptor `slot` as it is: what a hostile driver would do. `rest` is length, buffer id and
    /// flags, lowest first.
    pub fn write_descriptor(&self, slot: u16, address: u64, rest: u64) {
        let descriptor = self.descriptors.at(slot);
        descriptor[0].store(address, Ordering::Relaxed);
        descriptor[1].store(rest, Ordering::Release);
    }

    /// Puts a descriptor into the next slot, available but otherwise as it is, visible after the next
    /// [`publish`](Self::publish): what a hostile driver would do.
    pub fn add_descriptor(&mut self, address: Iova, bytes: u32, id: u16, flags: u16) {
        let flags = flags & !(AVAIL | USED);
        self.make_available(self.next_avail, address, bytes, id, flags);
        self.next_avail = self.next_avail.forward(1);
        self.unkicked.1 = self.unkicked.1.saturating_add(1);
    }

    /// Stores the driver's event suppression structure as it is, `desc` in the lower half and `flags` in
    /// the upper (2.8.14): what a hostile driver would do.
    pub fn write_driver_event(&self, event: u32) {
        self.driver_event.store(event, Ordering::Relaxed);
    }

    /// Returns whether the device wants a kick for what was published since the last call.
    pub fn kick_wanted(&mut self) -> bool {
        let (from, count) = std::mem::replace(&mut self.unkicked, (self.next_avail, 0));
        // Pairs with the fence in the device's `request_kick`.
        fence(Ordering::SeqCst);
        let event = self.device_event.load(Ordering::Relaxed);
        match event >> 16 & 3 {
            VRING_PACKED_EVENT_FLAG_DISABLE => false,
            VRING_PACKED_EVENT_FLAG_DESC => from.passes(event as u16, count),
            // The value 3 is reserved; a kick too many does no harm.
            _ => count > 0,
        }
    }

    /// Takes the next chain that the device returned. Those of an in-order batch come one by one, oldest
    /// first (2.8.8).
    #[inline]
    pub fn poll(&mut self) -> Option<Used> {
        let used = match &mut self.in_order {
            Some(in_order) => {
                let entry = || used_at(&self.descriptors, self.next_used);
                in_order.take(entry, |id| self.chains[usize::from(id)].writable)?
            }
            None => used_at(&self.descriptors, self.next_used)?,
        };
        let chain = self.chains.get_mut(usize::from(used.head));
        let chain = chain.map(std::mem::take).unwrap_or_default();
        if chain.descriptors > 0 {
            self.free_ids.push(used.head);
            self.free_slots += chain.descriptors;
        }
        // An id that names no chain is the device's mistake: go on behind its descriptor.
        self.next_used = self.next_used.forward(chain.descriptors.max(1));
        Some(used)
    }

    /// Asks for an interrupt at the next completion. Returns whether one is there already.
    pub fn request_interrupt(&self) -> bool {
        let by_place = self.config.features.contains(RingFeatures::EVENT_IDX);
        let flags = if by_place {
            VRING_PACKED_EVENT_FLAG_DESC
        } else {
            VRING_PACKED_EVENT_FLAG_ENABLE
        };
        self.write_driver_event(u32::from(self.next_used.bits()) | flags << 16);
        // Pairs with the fence in the device's `interrupt_wanted`.
        fence(Ordering::SeqCst);
        let in_batch = self.in_order.as_ref().is_some_and(InOrder::in_batch);
        in_batch || used_at(&self.descriptors, self.next_used).is_some()
    }

    /// Asks for no interrupts: this side polls.
    pub fn suppress_interrupts(&self) {
        self.write_driver_event(VRING_PACKED_EVENT_FLAG_DISABLE << 16);
    }
}

/// Returns what the device put at `place`, if it is used already.
#[inline]
fn used_at(descriptors: &SharedArray<[AtomicU64; 2]>, place: Lap) -> Option<Used> {
    // Acquire: pairs with the device's Release store of a used descriptor's flags.
    let rest = descriptors.at(place.slot())[1].load(Ordering::Acquire);
    let flags = (rest >> 48) as u16;
    let is_used = |flag| (flags & flag != 0) == place.wrap();
    if !is_used(AVAIL) || !is_used(USED) {
        return None;
    }
    // 2.8.4: without WRITE the length means nothing.
    let has_length = u32::from(flags) & VRING_DESC_F_WRITE != 0;
    Some(Used {
        head: (rest >> 32) as u16,
        written: if has_length { rest as u32 } else { 0 },
    })
}

fn write_flag(buffer: &Buffer) -> u16 {
    match buffer.direction {
        Direction::Readable => 0,
        Direction::Writable => VRING_DESC_F_WRITE as u16,
    }
}

/// Returns the second word of a descriptor.
fn rest(bytes: u32, id: u16, flags: u16) -> u64 {
    u64::from(bytes) | u64::from(id) << 32 | u64::from(flags) << 48
}
