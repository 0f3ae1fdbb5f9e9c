//! The device side of a packed virtqueue (VIRTIO 1.3, 2.8).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_PACKED_EVENT_FLAG_DESC, VRING_PACKED_EVENT_FLAG_DISABLE, VRING_PACKED_EVENT_FLAG_ENABLE,
};

use super::area::Areas;
use super::table::Table;
use super::used_descriptor::{AVAIL, USED};
use super::{
    Backlog, Chain, Descriptor, DeviceQueue, Done, DriverFault, Head, Position, QueueConfig,
    RingFeatures, RingState, SetupError, TakenChain, UsedDescriptor, indirect, need_event,
};
use crate::limits::PASS_REQUESTS_MAX;
use crate::mem::{Direction, RegionTable, SharedArray, SharedCell, kill};

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
    /// What was returned since the last publication. None of it is in the ring: what it would write over there may
    /// be in flight.
    unpublished: Vec<UsedDescriptor>,
    /// Chains to be taken before those in the ring, from `again_at` on; none, nearly always.
    again: Vec<TakenChain>,
    again_at: usize,
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
            next_avail: checked(config.next_avail, size)?,
            next_used: checked(config.next_used, size)?,
            unpublished: Vec::with_capacity(usize::from(size).max(PASS_REQUESTS_MAX)),
            again: Vec::new(),
            again_at: 0,
            pushed: 0,
            unsignalled: 0,
        })
    }

    /// Goes on after a device that was killed at `state`, with `used` to be published last and the chains of
    /// `in_flight` not returned: they are taken again, in that order, then what it never took.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when `state` is of another ring.
    pub fn go_on_at(
        &mut self,
        state: RingState,
        used: &[UsedDescriptor],
        in_flight: Vec<TakenChain>,
    ) -> Result<(), SetupError> {
        self.next_avail = checked(state.next_avail, self.size)?;
        self.next_used = checked(state.next_used, self.size)?;
        if let Some(first) = used.first()
            && !first.is_published(self.ring.at(first.slot)[1].load(Ordering::Acquire))
        {
            self.unpublished.extend_from_slice(used);
            self.publish();
        }
        self.again = in_flight;
        Ok(())
    }

    /// Returns the descriptors of `head`, which was taken last; none if it was taken again and is not in the ring.
    pub fn descriptors(&self, head: &Head) -> Option<impl ExactSizeIterator<Item = Descriptor>> {
        let first = self.back_by(head.slots());
        let slots = (0..head.slots()).map(move |ahead| first.advanced(ahead, self.size).slot);
        self.again
            .is_empty()
            .then(|| slots.map(|slot| self.descriptor(slot)))
    }

    /// Returns the place `slots` before the next chain.
    fn back_by(&self, slots: u16) -> Position {
        // On by the rest of a lap, one lap ago.
        let behind = self.next_avail.advanced(self.size - slots, self.size);
        Position {
            wrap: !behind.wrap,
            ..behind
        }
    }

    /// Takes the next chain of those to be taken again, if there is one left.
    #[cold]
    fn take_again(&mut self, chain: &mut Chain<'_>) -> Option<Result<Head, DriverFault>> {
        let Some(next) = self.again.get(self.again_at) else {
            self.again = Vec::new();
            return None;
        };
        self.again_at += 1;
        let walked = self.walk(next.descriptors.iter().copied(), chain);
        Some(walked.map(|(_, slots)| Head::new(next.id, slots)))
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
    fn follow_again(&self, rest: u64, chain: &mut Chain<'_>) -> Result<(u16, u16), DriverFault> {
        let slot = self.next_avail.slot;
        let address = self.ring.at(slot)[0].load(Ordering::Relaxed);
        let first = Descriptor::from_packed(address, rest);
        let slots = std::iter::successors(Some(slot), |&slot| Some(self.slot_after(slot)));
        let behind = slots.skip(1).map(|slot| self.descriptor(slot));
        self.walk(std::iter::once(first).chain(behind), chain)
    }

    /// The careful walk. Returns what [`follow`](Self::follow) does.
    fn walk(
        &self,
        descriptors: impl Iterator<Item = Descriptor>,
        chain: &mut Chain<'_>,
    ) -> Result<(u16, u16), DriverFault> {
        chain.clear();
        for (count, descriptor) in (1..=self.size).zip(descriptors) {
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
        }
        // Without its end there is no ID to return the chain by.
        Err(DriverFault::ChainTooLong(usize::from(self.size)))
    }

    #[inline]
    fn slot_after(&self, slot: u16) -> u16 {
        if slot + 1 == self.size { 0 } else { slot + 1 }
    }
}

/// Decodes a position, which must lie in a ring of `size`.
fn checked(bits: u16, size: u16) -> Result<Position, SetupError> {
    let position = Position::from_bits(bits);
    let slot = position.slot;
    let inside = (slot < size).then_some(position);
    inside.ok_or(SetupError::Position { slot, size })
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
        Ok(self.available(self.next_avail).is_some() || self.again_at < self.again.len())
    }

    #[inline]
    fn take(&mut self, chain: &mut Chain<'_>) -> Result<Option<Head>, DriverFault> {
        if !self.again.is_empty()
            && let Some(again) = self.take_again(chain)
        {
            return again.map(Some);
        }
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
        if self.again.is_empty() {
            self.next_avail = self.back_by(head.slots());
        } else {
            self.again_at -= 1;
        }
        head.abandon();
    }

    #[inline]
    fn push_batch(&mut self, last: Done, slots: u16) {
        self.unpublished
            .push(UsedDescriptor::new(self.next_used, last));
        self.next_used = self.next_used.advanced(slots, self.size);
        self.pushed = self.pushed.saturating_add(slots);
    }

    #[inline]
    fn publish(&mut self) {
        let Some((first, behind)) = self.unpublished.split_first() else {
            return;
        };
        for used in behind {
            kill::point();
            // The driver comes here only after the first one.
            self.ring.at(used.slot)[1].store(used.rest, Ordering::Relaxed);
        }
        kill::point();
        // Release: pairs with the driver's read barrier after it finds the flags of a used descriptor; status
        // bytes, data and the used descriptors behind it must be seen before it.
        self.ring.at(first.slot)[1].store(first.rest, Ordering::Release);
        self.unpublished.clear();
        self.unsignalled = self.unsignalled.saturating_add(self.pushed);
        self.pushed = 0;
    }

    #[inline]
    fn unpublished(&mut self) -> (RingState, &[UsedDescriptor]) {
        (self.state(), &self.unpublished)
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
