//! The data path of one virtqueue, whatever its format: the one place that chooses.

use std::sync::Arc;
use std::time::Duration;

use super::queue_poller::QueuePoller;
use super::rest::Rest;
use super::{QueueSetup, Records, Report};
use crate::backend::BackendQueue;
use crate::blk::Geometry;
use crate::inflight::{Logged, QueueLog};
use crate::mem::{FaultGuard, RegionTable};
use crate::ring::{
    Backlog, DeviceQueue, DriverFault, InOrder, PackedQueue, RingFeatures, RingState, SetupError,
    SplitQueue,
};

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This many requests were taken or returned.
    Busy(usize),
    /// Nothing.
    Idle,
}

/// Serves one virtqueue. Made, used and dropped on one thread.
#[derive(Debug)]
pub struct Poller(Format);

#[derive(Debug)]
enum Format {
    Split(QueuePoller<SplitQueue>),
    SplitInOrder(QueuePoller<InOrder<SplitQueue>>),
    Packed(QueuePoller<PackedQueue>),
    PackedInOrder(QueuePoller<InOrder<PackedQueue>>),
}

/// Does the same with a poller of every format; the loop over requests is inside of it.
macro_rules! with {
    ($format:expr, $poller:ident => $what:expr) => {
        match $format {
            Format::Split($poller) => $what,
            Format::SplitInOrder($poller) => $what,
            Format::Packed($poller) => $what,
            Format::PackedInOrder($poller) => $what,
        }
    };
}

impl Poller {
    /// Returns a poller of the queue in `setup`, with kicks suppressed.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the driver's queue cannot be served.
    pub fn new(setup: &QueueSetup) -> Result<Self, SetupError> {
        Self::resume(Rest::fresh(setup.queue), Arc::clone(&setup.table))
    }

    /// Returns a poller that goes on where a worker that was killed left the queue in `setup`, with what `log`
    /// has in flight.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the queue cannot be served, or nothing tells where it was.
    pub fn take_over(setup: &QueueSetup, log: Option<&mut QueueLog>) -> Result<Self, SetupError> {
        let mut poller = Self::new(setup)?;
        with!(&mut poller.0, poller => poller.queue().take_over(log)?);
        Ok(poller)
    }

    /// Begins `log` with nothing in flight.
    pub fn begin(&self, log: &mut QueueLog) {
        with!(&self.0, poller => poller.begin(log));
    }

    /// Returns a poller that goes on with `rest` in the memory of `table`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when the queue is not in that memory.
    pub(super) fn resume(rest: Rest, table: Arc<RegionTable>) -> Result<Self, SetupError> {
        let config = &rest.config;
        let size = config.size;
        let packed = config.features.contains(RingFeatures::RING_PACKED);
        let in_order = config.features.contains(RingFeatures::IN_ORDER);
        // Before the first touch: a ring part may lie on a missing page.
        let guard = FaultGuard::new(Arc::clone(&table));
        Ok(Self(match (packed, in_order) {
            (false, false) => {
                let queue = SplitQueue::new(config, &table)?;
                Format::Split(QueuePoller::new(queue, rest, table, guard))
            }
            (false, true) => {
                let queue = InOrder::new(SplitQueue::new(config, &table)?, size);
                Format::SplitInOrder(QueuePoller::new(queue, rest, table, guard))
            }
            (true, false) => {
                let queue = PackedQueue::new(config, &table)?;
                Format::Packed(QueuePoller::new(queue, rest, table, guard))
            }
            (true, true) => {
                let queue = InOrder::new(PackedQueue::new(config, &table)?, size);
                Format::PackedInOrder(QueuePoller::new(queue, rest, table, guard))
            }
        }))
    }

    /// Makes this poller the one that missing pages are put down to, where its thread has several. Called before each of
    /// their turns.
    #[inline]
    pub fn enter(&self) {
        with!(&self.0, poller => poller.enter());
    }

    /// Does one bounded pass. What was completed is visible to the driver when it returns; whether to
    /// interrupt it is the caller's to ask.
    #[inline]
    pub fn poll_once<B: BackendQueue>(
        &mut self,
        backend: &mut B,
        geometry: &Geometry,
        records: &mut Records<'_>,
    ) -> Progress {
        with!(&mut self.0, poller => poller.poll_once(backend, geometry, records))
    }

    /// Finishes what is in flight, waiting for at most `time`. Returns how many requests are left.
    pub fn finish<B: BackendQueue>(
        &mut self,
        backend: &mut B,
        time: Duration,
        records: &mut Records<'_>,
    ) -> usize {
        with!(&mut self.0, poller => poller.finish(backend, time, records))
    }

    /// Finishes what is in flight, waiting for at most `time`; abandons the rest and answers it with an
    /// error.
    pub fn drain<B: BackendQueue>(
        &mut self,
        backend: &mut B,
        time: Duration,
        records: &mut Records<'_>,
    ) -> Report {
        with!(&mut self.0, poller => poller.drain(backend, time, records))
    }

    /// Counts a beat: the time of requests in flight.
    pub fn beat(&mut self) {
        with!(&mut self.0, poller => poller.beat());
    }

    /// Returns how many beats there were since the oldest request in flight was taken; 0 without one.
    pub fn oldest_beats(&self) -> u32 {
        with!(&self.0, poller => poller.oldest_beats())
    }

    /// Answers every later request with an error.
    pub fn refuse(&mut self) {
        with!(&mut self.0, poller => poller.refuse());
    }

    /// Returns what is left of this poller, drained with `report`, without its memory.
    pub(super) fn rest(&self, report: Report) -> Rest {
        with!(&self.0, poller => poller.rest(report))
    }

    /// Returns how far the queue got.
    pub fn state(&self) -> RingState {
        with!(&self.0, poller => poller.state())
    }

    /// Returns whether new chains are still taken.
    #[inline]
    pub fn is_running(&self) -> bool {
        with!(&self.0, poller => poller.is_running())
    }

    /// Returns the driver's first breach of the specification.
    #[inline]
    pub fn fault(&self) -> Option<DriverFault> {
        with!(&self.0, poller => poller.fault())
    }

    /// Returns how many requests the backend has.
    #[inline]
    pub fn in_flight(&self) -> usize {
        with!(&self.0, poller => poller.in_flight())
    }

    /// Returns whether a worker may sleep now: everything that can happen to the queue wakes it.
    /// `completions_signalled` tells whether the backend's completions do.
    pub fn may_sleep(&self, completions_signalled: bool) -> bool {
        with!(&self.0, poller => poller.may_sleep(completions_signalled))
    }

    /// Returns what the driver has not taken back if it asked for an interrupt since
    /// [`interrupt_settled`](Self::interrupt_settled).
    #[inline]
    pub fn interrupt_wanted(&mut self) -> Option<Backlog> {
        with!(&mut self.0, poller => poller.queue().interrupt_wanted())
    }

    /// Notes that the driver was interrupted, or did not ask for it.
    #[inline]
    pub fn interrupt_settled(&mut self) {
        with!(&mut self.0, poller => poller.queue().interrupt_settled());
    }

    /// Asks the driver to kick at the next chain. Returns whether one is there already.
    ///
    /// # Errors
    ///
    /// [`DriverFault`] when the ring makes no sense.
    pub fn request_kick(&mut self) -> Result<bool, DriverFault> {
        with!(&mut self.0, poller => poller.queue().request_kick())
    }

    /// Tells the driver not to kick.
    pub fn suppress_kicks(&mut self) {
        with!(&mut self.0, poller => poller.queue().suppress_kicks());
    }
}

#[cfg(test)]
mod tests;
