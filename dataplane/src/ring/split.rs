//! The device side of a split virtqueue (VIRTIO 1.3, 2.7).

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};

use super::area::Areas;
use super::table::Table;
use super::{
    Backlog, Chain, Descriptor, DeviceQueue, Done, DriverFault, Head, QueueConfig, RingFeatures,
    RingState, SetupError, indirect, need_event,
};
use crate::mem::{Direction, RegionTable, SharedArray, SharedCell, kill, prefetch};

/// Chains after which a driver with event indexes is told again not to kick: it would once its index, modulo
/// 65536, comes to the one that it was told the last time.
const KICKS_SUPPRESSED: u16 = 1 << 14;

/// A split virtqueue, its ring memory checked once. One thread owns it.
#[derive(Debug)]
pub struct SplitQueue {
    size: u16,
    indirect: bool,
    event_idx: bool,
    /// Two words a descriptor.
    descriptors: SharedArray<[AtomicU64; 2]>,
    avail_flags: SharedCell<AtomicU16>,
    avail_idx: SharedCell<AtomicU16>,
    avail_ring: SharedArray<AtomicU16>,
    used_event: SharedCell<AtomicU16>,
    used_flags: SharedCell<AtomicU16>,
    used_idx: SharedCell<AtomicU16>,
    /// `id` and `len` of each element, 4-byte aligned only.
    used_ring: SharedArray<[AtomicU32; 2]>,
    avail_event: SharedCell<AtomicU16>,
    next_avail: u16,
    /// The driver's `avail_idx` as last read.
    last_avail_idx: u16,
    next_used: u16,
    published_used: u16,
    /// `used_idx` when the driver was last interrupted, or did not ask for it.
    signalled_used: u16,
    /// `used_event` as last read, if it was passed since the driver was last interrupted.
    passing_event: Option<u16>,
    /// `used_event`, if it was passed before that and has not moved since.
    passed_event: Option<u16>,
    /// The driver is to kick.
    kicks_wanted: bool,
    /// `next_avail` when it was last told not to.
    suppressed_at: u16,
    /// Heads to be taken before what is in the avail ring, from `again_from` on; none, nearly always.
    again: Vec<u16>,
    again_from: u16,
}

impl SplitQueue {
    /// Returns the queue that the driver set up at `config` in the memory of `table`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when a ring part is unmapped or misaligned or the size cannot be served.
    pub fn new(config: &QueueConfig, table: &RegionTable) -> Result<Self, SetupError> {
        let size = config.checked_size()?;
        let entries = u64::from(size);
        let Areas {
            descriptor,
            driver,
            device,
        } = Areas::new(config, Direction::Readable, table);
        let used_idx: SharedCell<AtomicU16> = device.cell(2)?;
        let used = used_idx.load(Ordering::Relaxed);
        Ok(Self {
            size,
            indirect: config.features.contains(RingFeatures::INDIRECT_DESC),
            event_idx: config.features.contains(RingFeatures::EVENT_IDX),
            descriptors: descriptor.array(0, size)?,
            avail_flags: driver.cell(0)?,
            avail_idx: driver.cell(2)?,
            avail_ring: driver.array(4, size)?,
            used_event: driver.cell(4 + 2 * entries)?,
            used_flags: device.cell(0)?,
            used_idx,
            used_ring: device.array(4, size)?,
            avail_event: device.cell(4 + 8 * entries)?,
            next_avail: config.next_avail,
            last_avail_idx: config.next_avail,
            next_used: used,
            published_used: used,
            signalled_used: used,
            passing_event: None,
            passed_event: None,
            kicks_wanted: true,
            suppressed_at: config.next_avail,
            again: Vec::new(),
            again_from: 0,
        })
    }

    /// Returns the index of the next avail entry to take.
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Goes on after a device that was killed with the chains at `heads` taken and not returned: they are taken
    /// again, in that order, then what it never took.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the driver does not have that many outstanding.
    pub fn take_again(&mut self, heads: Vec<u16>) -> Result<(), SetupError> {
        let outstanding = self
            .avail_idx
            .load(Ordering::Acquire)
            .wrapping_sub(self.published_used);
        if heads.len() > usize::from(outstanding) {
            let taken = heads.len();
            return Err(SetupError::InFlight { taken, outstanding });
        }
        self.next_avail = self.published_used;
        self.last_avail_idx = self.next_avail;
        self.again_from = self.next_avail;
        self.again = heads;
        self.suppress_kicks();
        Ok(())
    }

    /// Returns the head in the used element at `index`, where the driver can write too.
    pub fn returned_at(&self, index: u16) -> u32 {
        self.used_ring.at(index)[0].load(Ordering::Relaxed)
    }

    /// Returns the next head while there are some to be taken again.
    #[cold]
    fn next_again(&mut self) -> u16 {
        let place = self.next_avail.wrapping_sub(self.again_from);
        match self.again.get(usize::from(place)) {
            Some(&head) => head,
            None => {
                self.again = Vec::new();
                self.avail_ring.at(self.next_avail).load(Ordering::Relaxed)
            }
        }
    }

    /// Reads the driver's avail index. Returns whether there is something to take.
    #[inline]
    fn refill(&mut self) -> Result<bool, DriverFault> {
        // Acquire: pairs with the driver's barrier between writing entries and publishing the index.
        let avail_idx = self.avail_idx.load(Ordering::Acquire);
        if avail_idx.wrapping_sub(self.next_avail) > self.size {
            let (from, size) = (self.next_avail, self.size);
            return Err(DriverFault::AvailIndex {
                from,
                to: avail_idx,
                size,
            });
        }
        self.last_avail_idx = avail_idx;
        if self.next_avail.wrapping_sub(self.suppressed_at) > KICKS_SUPPRESSED && !self.kicks_wanted
        {
            self.suppress_kicks();
        }
        Ok(avail_idx != self.next_avail)
    }

    /// Resolves the chain that starts with descriptor `first`.
    #[inline]
    fn follow(&self, first: u16, chain: &mut Chain<'_>) {
        let descriptor = self.descriptor(first);
        let quick = if descriptor.is_indirect() && self.indirect {
            indirect::follow_linked_quickly(descriptor, chain)
        } else {
            chain.follow_quickly(self, first, descriptor).is_some()
                && chain.len() <= usize::from(self.size)
        };
        if !quick {
            self.follow_again(first, chain);
        }
    }

    #[cold]
    #[inline(never)]
    fn follow_again(&self, first: u16, chain: &mut Chain<'_>) {
        chain.clear();
        let size = self.size;
        let mut index = first;
        for _ in 0..size {
            let descriptor = self.descriptor(index);
            if descriptor.is_indirect() {
                if self.indirect {
                    indirect::follow_linked(descriptor, chain);
                } else {
                    chain.breach(DriverFault::IndirectNotNegotiated);
                }
                return;
            }
            let writable = chain.append(descriptor);
            match descriptor.next() {
                None => return chain.end(descriptor, writable),
                Some(next) if next < size => index = next,
                Some(next) => return chain.breach(DriverFault::NextOutOfRange { next, size }),
            }
        }
        chain.breach(DriverFault::ChainTooLong(usize::from(size)));
    }
}

impl Table for SplitQueue {
    #[inline]
    fn descriptor(&self, index: u16) -> Descriptor {
        let [address, rest] = self.descriptors.at(index);
        Descriptor::from_split(
            address.load(Ordering::Relaxed),
            rest.load(Ordering::Relaxed),
        )
    }

    #[inline]
    fn is_last(&self, _: u16, descriptor: Descriptor) -> bool {
        !descriptor.has_next()
    }

    #[inline]
    fn next(&self, _: u16, descriptor: Descriptor) -> Option<u16> {
        descriptor.next().filter(|&next| next < self.size)
    }
}

impl DeviceQueue for SplitQueue {
    #[inline]
    fn has_available(&mut self) -> Result<bool, DriverFault> {
        Ok(self.next_avail != self.last_avail_idx || self.refill()?)
    }

    #[inline]
    fn take(&mut self, chain: &mut Chain<'_>) -> Result<Option<Head>, DriverFault> {
        if !self.has_available()? {
            return Ok(None);
        }
        let size = self.size;
        let head = if self.again.is_empty() {
            self.avail_ring.at(self.next_avail).load(Ordering::Relaxed)
        } else {
            self.next_again()
        };
        if head >= size {
            return Err(DriverFault::HeadOutOfRange { head, size });
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        self.follow(head, chain);
        Ok(Some(Head::new(head, 1)))
    }

    #[inline]
    fn prefetch(&self, id: u16) {
        prefetch(self.avail_ring.address(self.next_avail));
        prefetch(self.descriptors.address(id));
    }

    fn put_back(&mut self, head: Head) {
        head.abandon();
        self.next_avail = self.next_avail.wrapping_sub(1);
    }

    #[inline]
    fn push_batch(&mut self, last: Done, slots: u16) {
        let (id, written) = last.returned();
        let [element_id, element_written] = self.used_ring.at(self.next_used);
        element_id.store(u32::from(id), Ordering::Relaxed);
        element_written.store(written, Ordering::Relaxed);
        self.next_used = self.next_used.wrapping_add(slots);
    }

    #[inline]
    fn publish(&mut self) {
        if self.next_used != self.published_used {
            kill::point();
            // Release: pairs with the driver's read barrier after it loads `used_idx`; status bytes,
            // data and used elements must be seen before it.
            self.used_idx.store(self.next_used, Ordering::Release);
            self.published_used = self.next_used;
        }
    }

    #[inline]
    fn interrupt_wanted(&mut self) -> Option<Backlog> {
        let (new, old) = (self.published_used, self.signalled_used);
        if new == old {
            return None;
        }
        // Pairs with the driver's barrier between writing `used_event` (or the flag) and reading
        // `used_idx` again: without it both could miss the other's store, and the driver sleeps on.
        fence(Ordering::SeqCst);
        if !self.event_idx {
            let flags = self.avail_flags.load(Ordering::Relaxed);
            let wanted = u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0;
            return wanted.then(|| Backlog {
                completed: new.wrapping_sub(old),
                outstanding: self.last_avail_idx.wrapping_sub(old).min(self.size),
                stale: false,
            });
        }
        let used_event = self.used_event.load(Ordering::Relaxed);
        // A driver that waits at `used_event` has taken everything before it back, so it has no more than a
        // queue outstanding from there on. One that has polls on.
        let outstanding = self.last_avail_idx.wrapping_sub(used_event);
        let stale = self.passed_event == Some(used_event);
        let passed = need_event(used_event, new, old);
        self.passing_event = passed.then_some(used_event);
        if !stale {
            self.passed_event = None;
        }
        (passed && (!stale || outstanding <= self.size)).then(|| Backlog {
            completed: new.wrapping_sub(used_event),
            outstanding: outstanding.min(self.size),
            stale,
        })
    }

    #[inline]
    fn interrupt_settled(&mut self) {
        self.signalled_used = self.published_used;
        self.passed_event = self.passing_event.take().or(self.passed_event);
    }

    fn suppress_kicks(&mut self) {
        self.kicks_wanted = false;
        if self.event_idx {
            // Behind everything that the driver may be about to announce.
            let event = self.next_avail.wrapping_sub(self.size).wrapping_sub(1);
            self.avail_event.store(event, Ordering::Relaxed);
            self.suppressed_at = self.next_avail;
        } else {
            self.used_flags
                .store(VRING_USED_F_NO_NOTIFY as u16, Ordering::Relaxed);
        }
    }

    fn request_kick(&mut self) -> Result<bool, DriverFault> {
        self.kicks_wanted = true;
        if self.event_idx {
            self.avail_event.store(self.next_avail, Ordering::Relaxed);
        } else {
            self.used_flags.store(0, Ordering::Relaxed);
        }
        // Pairs with the driver's barrier between publishing `avail_idx` and reading `avail_event` (or
        // the flag): one of the two sides sees the other's store.
        fence(Ordering::SeqCst);
        self.refill()
    }

    fn state(&self) -> RingState {
        RingState {
            next_avail: self.next_avail,
            next_used: self.published_used,
        }
    }
}
