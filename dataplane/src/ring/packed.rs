//! The device side of a packed virtqueue (VIRTIO 1.3, 2.8).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_DESC_F_WRITE, VRING_PACKED_DESC_F_AVAIL, VRING_PACKED_DESC_F_USED,
    VRING_PACKED_EVENT_FLAG_DESC, VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use super::area::Areas;
use super::table::Table;
use super::{
    Backlog, Chain, Descriptor, DeviceQueue, Done, DriverFault, Head, Position, QueueConfig,
    RingFeatures, RingState, SetupError, indirect, need_event,
};
use crate::mem::{Direction, RegionTable, SharedArray, SharedCell};

/// Flags of a descriptor, in its second word.
const AVAIL: u64 = 1 << (48 + VRING_PACKED_DESC_F_AVAIL);
const USED: u64 = 1 << (48 + VRING_PACKED_DESC_F_USED);
const WRITE: u64 = (VRING_DESC_F_WRITE as u64) << 48;

/// A packed virtqueue, its ring memory checked once. One thread owns it.
#[derive(Debug)]
pub struct PackedQueue {
    size: u16,
    indirect: bool,
    event_idx: bool,
    /// Two words a descriptor; both sides write them.
    ring: SharedArray<[AtomicU64; 2]>,
    /// The driver's event suppression: an offset with a wrap counter, then flags.
    driver_event: SharedCell<AtomicU32>,
    /// Ours.
    device_event: SharedCell<AtomicU32>,
    next_avail: Position,
    next_used: Position,
    /// The first used descriptor since the last publication: the driver looks no further until it sees it.
    unpublished: Option<(u16, u64)>,
    /// Descriptors returned since the last publication, and published ones that the driver was not yet
    /// interrupted for. They saturate.
    pushed: u16,
    unsignalled: u16,
}

impl PackedQueue {
    /// Returns the queue that the driver set up at `config` in the memory of `table`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when a ring part is unmapped or misaligned or the size or start cannot be served.
    pub fn new(config: &QueueConfig, table: &RegionTable) -> Result<Self, SetupError> {
        let size = config.checked_size()?;
        let position = |bits| {
            let position = Position::from_bits(bits);
            let slot = position.slot;
            (slot < size)
                .then_some(position)
                .ok_or(SetupError::Position { slot, size })
        };
        let Areas {
            descriptor: ring,
            driver,
            device,
        } = Areas::new(config, Direction::Writable, table);
        Ok(Self {
            size,
            indirect: config.features.contains(RingFeatures::INDIRECT_DESC),
            event_idx: config.features.contains(RingFeatures::EVENT_IDX),
            ring: ring.array(0, size)?,
            driver_event: driver.cell(0)?,
            device_event: device.cell(0)?,
            next_avail: position(config.next_avail)?,
            next_used: position(config.next_used)?,
            unpublished: None,
            pushed: 0,
            unsignalled: 0,
        })
    }

    /// Returns the second word of the descriptor at `at` if it is available (2.8.1).
    #[inline]
    fn available(&self, at: Position) -> Option<u64> {
        // Acquire: pairs with the driver's barrier before it stores the flags of a chain's first descriptor.
        let rest = self.ring.at(at.slot)[1].load(Ordering::Acquire);
        let avail = rest & AVAIL != 0;
        let used = rest & USED != 0;
        (avail == at.wrap && used != at.wrap).then_some(rest)
    }

    /// Resolves the chain whose first descriptor has the second word `rest`. Returns its ID and how many
    /// descriptors it has.
    #[inline]
    fn follow(&self, rest: u64, chain: &mut Chain<'_>) -> Result<(u16, u16), DriverFault> {
        let slot = self.next_avail.slot;
        let first = Descriptor::from_packed(self.ring.at(slot)[0].load(Ordering::Relaxed), rest);
        if first.is_indirect() {
            if self.indirect && indirect::follow_sequence_quickly(first, chain) {
                return Ok((first.buffer_id(), 1));
            }
        } else if let Some(last) = chain.follow_quickly(self, slot, first)
            && chain.len() <= usize::from(self.size)
        {
            return Ok((last.buffer_id(), chain.len() as u16));
        }
        self.follow_again(rest, chain)
    }

    #[cold]
    #[inline(never)]
    fn follow_again(
        &self,
        mut rest: u64,
        chain: &mut Chain<'_>,
    ) -> Result<(u16, u16), DriverFault> {
        chain.clear();
        let mut slot = self.next_avail.slot;
        for count in 1..=self.size {
            let address = self.ring.at(slot)[0].load(Ordering::Relaxed);
            let descriptor = Descriptor::from_packed(address, rest);
            if !descriptor.is_indirect() {
                let writable = chain.append(descriptor);
                if !descriptor.has_next() {
                    chain.end(descriptor, writable);
                }
            } else if self.indirect && count == 1 && !descriptor.has_next() {
                indirect::follow_sequence(descriptor, chain);
            } else if self.indirect {
                chain.breach(DriverFault::IndirectNested);
            } else {
                chain.breach(DriverFault::IndirectNotNegotiated);
            }
            if !descriptor.has_next() {
                return Ok((descriptor.buffer_id(), count));
            }
            slot = self.slot_after(slot);
            // Ordered by the first descriptor's flags, which the driver stores last.
            rest = self.ring.at(slot)[1].load(Ordering::Relaxed);
        }
        // Without its end there is no ID to return the chain by.
        Err(DriverFault::ChainTooLong(usize::from(self.size)))
    }

    #[inline]
    fn slot_after(&self, slot: u16) -> u16 {
        if slot + 1 == self.size { 0 } else { slot + 1 }
    }
}

impl Table for PackedQueue {
    #[inline]
    fn descriptor(&self, slot: u16) -> Descriptor {
        let [address, rest] = self.ring.at(slot);
        // Ordered by the first descriptor's flags, which the driver stores last.
        Descriptor::from_packed(
            address.load(Ordering::Relaxed),
            rest.load(Ordering::Relaxed),
        )
    }

    #[inline]
    fn is_last(&self, _: u16, descriptor: Descriptor) -> bool {
        !descriptor.has_next()
    }

    #[inline]
    fn next(&self, slot: u16, _: Descriptor) -> Option<u16> {
        Some(self.slot_after(slot))
    }
}

impl DeviceQueue for PackedQueue {
    #[inline]
    fn has_available(&mut self) -> Result<bool, DriverFault> {
        Ok(self.available(self.next_avail).is_some())
    }

    #[inline]
    fn take(&mut self, chain: &mut Chain<'_>) -> Result<Option<Head>, DriverFault> {
        let Some(rest) = self.available(self.next_avail) else {
            return Ok(None);
        };
        let (id, slots) = self.follow(rest, chain)?;
        let size = self.size;
        if id >= size {
            return Err(DriverFault::HeadOutOfRange { head: id, size });
        }
        self.next_avail = self.next_avail.advanced(slots, size);
        Ok(Some(Head::new(id, slots)))
    }

    fn put_back(&mut self, head: Head) {
        // Back by `slots` is on by the rest of a lap, one lap ago.
        let behind = self
            .next_avail
            .advanced(self.size - head.slots(), self.size);
        self.next_avail = Position {
            wrap: !behind.wrap,
            ..behind
        };
        head.abandon();
    }

    #[inline]
    fn push_batch(&mut self, last: Done, slots: u16) {
        let (id, written) = last.returned();
        let Position { slot, wrap } = self.next_used;
        let lap = if wrap { AVAIL | USED } else { 0 };
        let write = if written > 0 { WRITE } else { 0 };
        let rest = u64::from(written) | u64::from(id) << 32 | lap | write;
        match self.unpublished {
            None => self.unpublished = Some((slot, rest)),
            // The driver comes here only after the first one, which is published with Release.
            Some(_) => self.ring.at(slot)[1].store(rest, Ordering::Relaxed),
        }
        self.next_used = self.next_used.advanced(slots, self.size);
        self.pushed = self.pushed.saturating_add(slots);
    }

    #[inline]
    fn publish(&mut self) {
        if let Some((slot, rest)) = self.unpublished.take() {
            // Release: pairs with the driver's read barrier after it finds the flags of a used descriptor;
            // status bytes, data and the used descriptors behind it must be seen before it.
            self.ring.at(slot)[1].store(rest, Ordering::Release);
            self.unsignalled = self.unsignalled.saturating_add(self.pushed);
            self.pushed = 0;
        }
    }

    #[inline]
    fn interrupt_wanted(&mut self) -> Option<Backlog> {
        if self.unsignalled == 0 {
            return None;
        }
        // Pairs with the driver's barrier between writing its event suppression and looking at the next
        // used descriptor again: without it both could miss the other's store, and the driver sleeps on.
        fence(Ordering::SeqCst);
        let event = self.driver_event.load(Ordering::Relaxed);
        let size = self.size;
        let unsignalled = self.unsignalled.min(size);
        match event >> 16 & 3 {
            VRING_PACKED_EVENT_FLAG_DISABLE => None,
            VRING_PACKED_EVENT_FLAG_DESC if self.event_idx => {
                let asked = Position::from_bits(event as u16);
                // On the lap of `next_used`, as an index that may be before its start.
                let lap = if asked.wrap == self.next_used.wrap {
                    0
                } else {
                    size
                };
                let new = self.next_used.slot;
                let old = new.wrapping_sub(self.unsignalled);
                need_event(asked.slot.wrapping_sub(lap), new, old).then(|| Backlog {
                    completed: self.next_used.ahead_of(asked, size).min(size),
                    outstanding: self.next_avail.ahead_of(asked, size).min(size),
                    stale: false,
                })
            }
            _ => Some(Backlog {
                completed: unsignalled,
                outstanding: unsignalled
                    .saturating_add(self.next_avail.ahead_of(self.next_used, size))
                    .min(size),
                stale: false,
            }),
        }
    }

    #[inline]
    fn interrupt_settled(&mut self) {
        self.unsignalled = 0;
    }

    fn suppress_kicks(&mut self) {
        self.device_event
            .store(VRING_PACKED_EVENT_FLAG_DISABLE << 16, Ordering::Relaxed);
    }

    fn request_kick(&mut self) -> Result<bool, DriverFault> {
        let event = if self.event_idx {
            u32::from(self.next_avail.bits()) | VRING_PACKED_EVENT_FLAG_DESC << 16
        } else {
            VRING_PACKED_EVENT_FLAG_ENABLE << 16
        };
        self.device_event.store(event, Ordering::Relaxed);
        // Pairs with the driver's barrier between making descriptors available and reading our event
        // suppression: one of the two sides sees the other's store.
        fence(Ordering::SeqCst);
        Ok(self.available(self.next_avail).is_some())
    }

    fn state(&self) -> RingState {
        RingState {
            next_avail: self.next_avail.bits(),
            next_used: self.next_used.bits(),
        }
    }
}
