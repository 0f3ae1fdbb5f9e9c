//! Chains returned in the order in which they were taken (VIRTIO 1.3, VIRTIO_F_IN_ORDER), a batch with one
//! entry.

use super::{Backlog, Chain, DeviceQueue, Done, DriverFault, Head, RingState, UsedDescriptor};

/// A virtqueue that returns its chains in order, however they are completed.
#[derive(Debug)]
pub struct InOrder<Q> {
    queue: Q,
    /// What was taken and not returned, oldest first, in a circle.
    order: Box<[Place]>,
    /// Place of each ID in `order`.
    place_of: Box<[u16]>,
    first: usize,
    count: usize,
}

/// A chain's place in the order.
#[derive(Debug, Default)]
struct Place {
    slots: u16,
    done: Option<Done>,
}

impl<Q: DeviceQueue> InOrder<Q> {
    /// Returns `queue`, which has `size` entries and nothing in flight, with its order kept.
    pub fn new(queue: Q, size: u16) -> Self {
        Self {
            queue,
            order: (0..size).map(|_| Place::default()).collect(),
            place_of: (0..size).collect(),
            first: 0,
            count: 0,
        }
    }

    /// Returns the queue itself, for as long as nothing is in flight.
    pub fn queue(&mut self) -> &mut Q {
        &mut self.queue
    }

    /// Returns the place `ahead` of the first; the number of places is a power of two.
    #[inline]
    fn place(&self, ahead: usize) -> usize {
        (self.first + ahead) & (self.order.len() - 1)
    }

    /// Pushes everything that is done and has nothing undone before it. A driver takes the chains before a
    /// batch's last for completely used, so one that is not ends its batch.
    #[inline]
    fn release(&mut self) {
        let mut slots = 0;
        let mut last = None;
        while self.count > 0
            && let Some(done) = self.order[self.first].done.take()
        {
            if let Some(done) = last.take_if(|last: &mut Done| !last.is_whole()) {
                self.queue.push_batch(done, slots);
                slots = 0;
            }
            slots += self.order[self.first].slots;
            self.first = self.place(1);
            self.count -= 1;
            if let Some(before) = last.replace(done) {
                // Counted in `slots`; the batch's entry stands for it.
                before.returned();
            }
        }
        if let Some(done) = last {
            self.queue.push_batch(done, slots);
        }
    }
}

impl<Q: DeviceQueue> DeviceQueue for InOrder<Q> {
    const IN_ORDER: bool = true;

    #[inline]
    fn has_available(&mut self) -> Result<bool, DriverFault> {
        self.queue.has_available()
    }

    #[inline]
    fn take(&mut self, chain: &mut Chain<'_>) -> Result<Option<Head>, DriverFault> {
        let Some(head) = self.queue.take(chain)? else {
            return Ok(None);
        };
        if self.count == self.order.len() {
            // More chains than entries: one of them is in the ring twice.
            let id = head.id();
            head.abandon();
            return Err(DriverFault::HeadInFlight(id));
        }
        let place = self.place(self.count);
        self.order[place].slots = head.slots();
        if let Some(known) = self.place_of.get_mut(usize::from(head.id())) {
            *known = place as u16;
        }
        self.count += 1;
        Ok(Some(head))
    }

    #[inline]
    fn prefetch(&self, id: u16) {
        self.queue.prefetch(id);
    }

    fn put_back(&mut self, head: Head) {
        self.count -= 1;
        self.queue.put_back(head);
    }

    #[inline]
    fn push_batch(&mut self, last: Done, _: u16) {
        let place = self.place_of.get(usize::from(last.id())).copied();
        let place = place.and_then(|place| self.order.get_mut(usize::from(place)));
        match place {
            Some(place) if place.done.is_none() => place.done = Some(last),
            // The same chain twice: its first answer counts.
            _ => {
                last.returned();
            }
        }
    }

    #[inline]
    fn unpublished(&mut self) -> (RingState, &[UsedDescriptor]) {
        self.release();
        self.queue.unpublished()
    }

    #[inline]
    fn publish(&mut self) {
        self.release();
        self.queue.publish();
    }

    #[inline]
    fn interrupt_wanted(&mut self) -> Option<Backlog> {
        self.queue.interrupt_wanted()
    }

    #[inline]
    fn interrupt_settled(&mut self) {
        self.queue.interrupt_settled();
    }

    fn suppress_kicks(&mut self) {
        self.queue.suppress_kicks();
    }

    fn request_kick(&mut self) -> Result<bool, DriverFault> {
        self.queue.request_kick()
    }

    fn state(&self) -> RingState {
        self.queue.state()
    }
}

impl<Q> Drop for InOrder<Q> {
    /// Gives up what was done and could not be returned: the queue is gone.
    fn drop(&mut self) {
        for done in self.order.iter_mut().filter_map(|place| place.done.take()) {
            done.returned();
        }
    }
}
