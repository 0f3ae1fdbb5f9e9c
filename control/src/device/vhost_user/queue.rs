//! What a frontend has said of one virtqueue, and whether that is enough to serve it.

use pollux_dataplane::ring::{QueueConfig, RingFeatures, RingState};

use super::memory::Memory;
use super::notifier::Eventfds;

/// One virtqueue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) eventfds: Eventfds,
    pub(super) size: u16,
    /// Descriptor, driver and device area, by the frontend's own addresses.
    pub(super) areas: Option<[u64; 3]>,
    /// Where to go on.
    pub(super) state: RingState,
    /// A kick eventfd was given, or that there is none: the ring is started.
    pub(super) started: bool,
    pub(super) enabled: bool,
    /// A worker serves it.
    pub(super) served: bool,
}

/// The second word of the state of a packed ring.
const USED_SHIFT: u32 = 16;

impl Queue {
    /// Returns one of which nothing was said.
    pub(super) fn new(eventfds: Eventfds) -> Self {
        Self {
            eventfds,
            size: 0,
            areas: None,
            state: RingState::default(),
            started: false,
            enabled: false,
            served: false,
        }
    }

    /// Forgets what was said.
    pub(super) fn reset(&mut self) {
        let eventfds = self.eventfds.clone();
        *self = Self::new(eventfds);
    }

    /// Takes `base` as where to go on. A split ring has its used index in memory. Of a packed one the upper half says
    /// where that is, and many frontends leave it out; a queue is handed on with nothing in flight, so it is the same
    /// place.
    pub(super) fn set_base(&mut self, base: u32, packed: bool) {
        let next_avail = base as u16;
        self.state = RingState {
            next_avail,
            next_used: if packed { next_avail } else { 0 },
        };
    }

    /// Returns where to go on, in that form.
    pub(super) fn base(&self, packed: bool) -> u32 {
        let RingState {
            next_avail,
            next_used,
        } = self.state;
        let used = if packed { u32::from(next_used) } else { 0 };
        u32::from(next_avail) | used << USED_SHIFT
    }

    /// Returns what a worker needs to know, once enough was said.
    ///
    /// # Errors
    ///
    /// The address of a part that is in no memory that was shared.
    pub(super) fn ready(
        &self,
        memory: &Memory,
        features: RingFeatures,
    ) -> Option<Result<QueueConfig, u64>> {
        let is_ready = self.started && self.enabled && !self.served && self.size > 0;
        let areas = self.areas.filter(|_| is_ready)?;
        let guest = areas.map(|address| memory.guest_address(address).ok_or(address));
        let [descriptor, driver, device] = guest;
        Some((|| {
            Ok(QueueConfig {
                size: self.size,
                descriptor_area: descriptor?,
                driver_area: driver?,
                device_area: device?,
                next_avail: self.state.next_avail,
                next_used: self.state.next_used,
                features,
            })
        })())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_comes_back_as_it_was_given() {
        let mut queue = Queue::new(Eventfds::new().unwrap());
        queue.set_base(0x8007_8007, true);
        let state = queue.state;
        assert_eq!((state.next_avail, state.next_used), (0x8007, 0x8007));
        assert_eq!(queue.base(true), 0x8007_8007);
        queue.set_base(0x8000, true);
        assert_eq!(queue.base(true), 0x8000_8000);
        queue.set_base(0xffff, false);
        assert_eq!((queue.base(false), queue.state.next_used), (0xffff, 0));
    }

    #[test]
    fn a_queue_is_ready_once_all_was_said() {
        let memory = Memory::default();
        let mut queue = Queue::new(Eventfds::new().unwrap());
        let ready = |queue: &Queue| queue.ready(&memory, RingFeatures::empty());
        queue.started = true;
        queue.enabled = true;
        queue.size = 256;
        assert_eq!(ready(&queue), None);
        queue.areas = Some([0x1000, 0x2000, 0x3000]);
        assert_eq!(ready(&queue), Some(Err(0x1000)));
        queue.served = true;
        assert_eq!(ready(&queue), None);
    }
}
