//! The device side of a split virtqueue (VIRTIO 1.3, 2.7).

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use virtio_bindings::virtio_ring::{VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY};

use super::{Chain, Descriptor, DriverFault, Head, QueueConfig, RingFeatures, need_event};
use crate::limits::{QUEUE_SIZE_MAX, QUEUE_SIZE_MIN};
use crate::mem::{Direction, Iova, RegionTable, SharedArray, SharedCell, TranslateError};

/// Why a virtqueue cannot be served. The driver chose its size and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not a power of two, or outside of the limits.
    #[error(
        "a queue size of {0}; a power of two from {QUEUE_SIZE_MIN} to {QUEUE_SIZE_MAX} is needed"
    )]
    Size(u16),
    /// A ring part is not in the driver's memory.
    #[error("the {part} at {at}: {reason}")]
    Area {
        /// Which part.
        part: &'static str,
        /// Where the driver put it.
        at: Iova,
        /// What is wrong with that.
        reason: TranslateError,
    },
}

/// A split virtqueue, its ring memory checked once. One thread owns it.
#[derive(Debug)]
pub struct SplitQueue {
    size: u16,
    indirect: bool,
    event_idx: bool,
    /// Two words a descriptor.
    descriptors: SharedArray<AtomicU64>,
    avail_flags: SharedCell<AtomicU16>,
    avail_idx: SharedCell<AtomicU16>,
    avail_ring: SharedArray<AtomicU16>,
    used_event: SharedCell<AtomicU16>,
    used_flags: SharedCell<AtomicU16>,
    used_idx: SharedCell<AtomicU16>,
    /// `id` and `len` of each element: elements are 4-byte aligned only.
    used_ring: SharedArray<AtomicU32>,
    avail_event: SharedCell<AtomicU16>,
    next_avail: u16,
    /// The driver's `avail_idx` as last read.
    last_avail_idx: u16,
    next_used: u16,
    published_used: u16,
    /// `used_idx` when the driver was last interrupted, or did not ask for it.
    signalled_used: u16,
}

impl SplitQueue {
    /// Returns the queue that the driver set up at `config` in the memory of `table`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when a ring part is unmapped or misaligned or the size cannot be served.
    pub fn new(config: &QueueConfig, table: &RegionTable) -> Result<Self, SetupError> {
        let size = config.size;
        if !size.is_power_of_two() || !(QUEUE_SIZE_MIN..=QUEUE_SIZE_MAX).contains(&size) {
            return Err(SetupError::Size(size));
        }
        let entries = u64::from(size);
        let descriptor = Area {
            part: "descriptor area",
            start: config.descriptor_area,
            table,
        };
        let driver = Area {
            part: "driver area",
            start: config.driver_area,
            table,
        };
        let device = Area {
            part: "device area",
            start: config.device_area,
            table,
        };
        let used_idx: SharedCell<AtomicU16> = device.cell(2, Direction::Writable)?;
        let used = used_idx.load(Ordering::Relaxed);
        Ok(Self {
            size,
            indirect: config.features.contains(RingFeatures::INDIRECT_DESC),
            event_idx: config.features.contains(RingFeatures::EVENT_IDX),
            descriptors: descriptor.array(0, size * 2, Direction::Readable)?,
            avail_flags: driver.cell(0, Direction::Readable)?,
            avail_idx: driver.cell(2, Direction::Readable)?,
            avail_ring: driver.array(4, size, Direction::Readable)?,
            used_event: driver.cell(4 + 2 * entries, Direction::Readable)?,
            used_flags: device.cell(0, Direction::Writable)?,
            used_idx,
            used_ring: device.array(4, size * 2, Direction::Writable)?,
            avail_event: device.cell(4 + 8 * entries, Direction::Writable)?,
            next_avail: config.next_avail,
            last_avail_idx: config.next_avail,
            next_used: used,
            published_used: used,
            signalled_used: used,
        })
    }

    /// Returns the index of the next avail entry to take.
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// Takes the next chain that the driver made available, if there is one.
    ///
    /// # Errors
    ///
    /// [`DriverFault`] when the avail ring makes no sense; nothing is taken then.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Head>, DriverFault> {
        if self.next_avail == self.last_avail_idx && !self.refill()? {
            return Ok(None);
        }
        let head = self.avail_ring.at(self.next_avail).load(Ordering::Relaxed);
        if head >= self.size {
            return Err(DriverFault::HeadOutOfRange {
                head,
                size: self.size,
            });
        }
        self.next_avail = self.next_avail.wrapping_add(1);
        Ok(Some(Head::new(head)))
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
        Ok(avail_idx != self.next_avail)
    }

    /// Resolves the memory of `head` into `chain`.
    ///
    /// # Errors
    ///
    /// [`DriverFault`] at the first breach; `chain` holds what was found until then.
    #[inline]
    pub fn resolve(&self, head: &Head, chain: &mut Chain<'_>) -> Result<(), DriverFault> {
        chain.follow(head.index(), self.size, self.indirect, |index| {
            let address = self.descriptors.at(index * 2).load(Ordering::Relaxed);
            let rest = self.descriptors.at(index * 2 + 1).load(Ordering::Relaxed);
            Descriptor::from_words(address, rest)
        })
    }

    /// Returns `head` to the driver with `written` bytes in its buffers. The driver sees it at the next
    /// [`publish`](Self::publish).
    #[inline]
    pub fn push(&mut self, head: Head, written: u32) {
        let slot = (self.next_used & (self.size - 1)) * 2;
        self.used_ring
            .at(slot)
            .store(u32::from(head.returned()), Ordering::Relaxed);
        self.used_ring
            .at(slot + 1)
            .store(written, Ordering::Relaxed);
        self.next_used = self.next_used.wrapping_add(1);
    }

    /// Shows the driver everything pushed. Returns how many chains that were.
    #[inline]
    pub fn publish(&mut self) -> u16 {
        let pushed = self.next_used.wrapping_sub(self.published_used);
        if pushed > 0 {
            // Release: pairs with the driver's read barrier after it loads `used_idx`; status bytes,
            // data and used elements must be seen before it.
            self.used_idx.store(self.next_used, Ordering::Release);
            self.published_used = self.next_used;
        }
        pushed
    }

    /// Returns what the driver has not taken back if it asked for an interrupt for something published
    /// since [`interrupt_settled`](Self::interrupt_settled); `None` if it did not ask.
    #[inline]
    pub fn interrupt_wanted(&self) -> Option<Backlog> {
        let (new, old) = (self.published_used, self.signalled_used);
        if new == old {
            return None;
        }
        // Pairs with the driver's barrier between writing `used_event` (or the flag) and reading
        // `used_idx` again: without it both could miss the other's store, and the driver sleeps on.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let used_event = self.used_event.load(Ordering::Relaxed);
            // A driver that waits has taken everything before `used_event` back.
            let backlog = Backlog {
                completed: new.wrapping_sub(used_event),
                outstanding: self.last_avail_idx.wrapping_sub(used_event).min(self.size),
            };
            need_event(used_event, new, old).then_some(backlog)
        } else {
            let flags = self.avail_flags.load(Ordering::Relaxed);
            let completed = new.wrapping_sub(old);
            let outstanding = self.last_avail_idx.wrapping_sub(old).min(self.size);
            let wanted = u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0;
            wanted.then_some(Backlog {
                completed,
                outstanding,
            })
        }
    }

    /// Notes that the driver was interrupted for all that was published, or did not ask for it.
    #[inline]
    pub fn interrupt_settled(&mut self) {
        self.signalled_used = self.published_used;
    }

    /// Tells the driver not to kick: this queue is polled. With event indexes one kick in 65536
    /// remains.
    pub fn suppress_kicks(&self) {
        if self.event_idx {
            self.avail_event
                .store(self.next_avail.wrapping_sub(1), Ordering::Relaxed);
        } else {
            self.used_flags
                .store(VRING_USED_F_NO_NOTIFY as u16, Ordering::Relaxed);
        }
    }

    /// Asks the driver to kick at the next chain. Returns whether one came in the meantime, in which
    /// case no kick will tell of it.
    ///
    /// # Errors
    ///
    /// [`DriverFault`] when the avail index makes no sense.
    pub fn request_kick(&mut self) -> Result<bool, DriverFault> {
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
}

/// What the driver has not taken back from a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Requests completed.
    pub completed: u16,
    /// Requests submitted, as far as they were seen; those completed included.
    pub outstanding: u16,
}

/// One of the three parts of a ring.
struct Area<'table> {
    part: &'static str,
    start: Iova,
    table: &'table RegionTable,
}

impl Area<'_> {
    fn named<T>(
        &self,
        offset: u64,
        look: impl FnOnce(Iova) -> Result<T, TranslateError>,
    ) -> Result<T, SetupError> {
        let unmapped = TranslateError::Unmapped {
            iova: self.start,
            bytes: offset,
        };
        let found = self
            .start
            .checked_add(offset)
            .ok_or(unmapped)
            .and_then(look);
        found.map_err(|reason| SetupError::Area {
            part: self.part,
            at: self.start,
            reason,
        })
    }

    fn cell<A: vm_memory::AtomicInteger>(
        &self,
        offset: u64,
        direction: Direction,
    ) -> Result<SharedCell<A>, SetupError> {
        self.named(offset, |at| self.table.cell(at, direction))
    }

    fn array<A: vm_memory::AtomicInteger>(
        &self,
        offset: u64,
        count: u16,
        direction: Direction,
    ) -> Result<SharedArray<A>, SetupError> {
        self.named(offset, |at| self.table.array(at, count, direction))
    }
}
