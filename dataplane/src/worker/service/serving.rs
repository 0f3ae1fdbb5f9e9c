//! A queue that is served, rests, or is left, and the memory that goes with it.

use std::sync::Arc;
use std::time::Duration;

use super::{DRAIN, Service};
use crate::backend::BackendQueue;
use crate::blk::Geometry;
use crate::limits::HAND_OVER_MS_MAX;
use crate::mem::RegionTable;
use crate::ring::{RingState, SetupError};
use crate::worker::rest::Rest;
use crate::worker::{Notifier, Poller, QueueSetup, Records, Report};

impl<Q: BackendQueue, N: Notifier> Service<Q, N> {
    pub(super) fn start(&mut self, setup: &QueueSetup) -> Result<RingState, SetupError> {
        self.prepare(setup);
        if let Some(log) = &mut self.in_flight {
            log.end();
        }
        self.resting = Some(Rest::fresh(setup.queue));
        self.resume(Arc::clone(&setup.table))
    }

    pub(super) fn take_over(&mut self, setup: &QueueSetup) -> Result<RingState, SetupError> {
        self.prepare(setup);
        self.backend.set_memory(&setup.table);
        let poller = Poller::take_over(setup, self.in_flight.as_mut())?;
        let state = poller.state();
        self.poller = Some(poller);
        // The dead one's kick eventfd is still there; nobody would ever see what goes there.
        let _ = self.notifier.listen(None);
        // It may have returned requests and not said so.
        self.interrupt();
        Ok(state)
    }

    /// Lets go of the queue for another process, unless too much is in flight. Returns whether it did.
    pub(super) fn leave(&mut self) -> bool {
        if !self.is_finished() {
            return false;
        }
        self.release();
        self.resting = None;
        true
    }

    /// Returns whether nothing is in flight, or comes to be soon enough for a driver that waits meanwhile.
    fn is_finished(&mut self) -> bool {
        let time = self.patience(Duration::from_millis(HAND_OVER_MS_MAX));
        self.finish(time) == 0
    }

    /// Leaves the queue served before, for another one.
    pub(super) fn prepare(&mut self, setup: &QueueSetup) {
        // Memory in flight must not go away; and one guard a thread.
        self.stop();
        self.backend.set_write_through(setup.write_through);
        self.fault.store(None);
        self.fault_shown = false;
        // A reset took the kick eventfd away.
        self.listening = false;
        self.idle.busy();
        self.moderation.settle();
    }

    /// Goes on in the memory of `table`.
    pub(super) fn remap(&mut self, table: Arc<RegionTable>) -> Result<RingState, SetupError> {
        self.pause();
        self.resume(table)
    }

    /// Finishes what is in flight, and lets go of the queue's memory.
    pub(super) fn pause(&mut self) -> Report {
        let report = self.drain(DRAIN);
        if let Some(poller) = &self.poller {
            self.resting = Some(poller.rest(report));
        }
        self.release();
        report
    }

    /// The same, unless too much is in flight: none then, and the queue goes on.
    pub(super) fn try_pause(&mut self) -> Option<Report> {
        self.is_finished().then(|| self.pause())
    }

    /// Uses the driver's memory no more. Nothing is in flight.
    pub(super) fn release(&mut self) {
        self.poller = None;
        self.backend.set_memory(&RegionTable::default());
    }

    /// Serves the queue that rests, if any. One that is not in the memory of `table` rests on until the
    /// next one.
    pub(super) fn resume(&mut self, table: Arc<RegionTable>) -> Result<RingState, SetupError> {
        let Some(rest) = self.resting else {
            return Ok(RingState::default());
        };
        self.backend.set_memory(&table);
        let poller = Poller::resume(rest, table)?;
        if let Some(log) = self.in_flight.as_mut().filter(|log| !log.is_served()) {
            poller.begin(log);
        }
        let state = poller.state();
        self.poller = Some(poller);
        self.resting = None;
        self.idle.busy();
        Ok(state)
    }

    pub(super) fn resize(&mut self, geometry: Geometry) {
        if geometry.capacity_sectors < self.geometry.capacity_sectors {
            // Checked against the end before.
            self.drain(DRAIN);
        }
        self.geometry = geometry;
    }

    /// Returns how much of `time` there is for the backend.
    fn patience(&self, time: Duration) -> Duration {
        if self.waits { time } else { Duration::ZERO }
    }

    pub(super) fn drain(&mut self, time: Duration) -> Report {
        let time = self.patience(time);
        let Some(poller) = &mut self.poller else {
            return Report::default();
        };
        let mut records = Records {
            counters: &self.counters,
            latency: &mut self.latency,
            in_flight: self.in_flight.as_mut(),
        };
        let report = poller.drain(&mut self.backend, time, &mut records);
        self.interrupt_if_wanted();
        report
    }

    pub(super) fn stop(&mut self) -> Report {
        let rest = self.resting.take();
        let report = match &rest {
            Some(rest) => Report {
                state: Some(rest.config.state()),
                abandoned: 0,
            },
            None => self.drain(DRAIN),
        };
        if (self.poller.is_some() || rest.is_some())
            && let Some(log) = &mut self.in_flight
        {
            log.end();
        }
        self.release();
        report
    }
}
