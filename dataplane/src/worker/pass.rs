//! What one pass adds up, and where it is written down.

use quanta::Instant;

use crate::blk::Status;
use crate::inflight::QueueLog;
use crate::limits::{PASS_BYTES_MAX, PASS_REQUESTS_MAX};
use crate::stats::{LatencyRecorder, QueueCounters};

/// Where a pass writes down what happened.
#[derive(Debug)]
pub struct Records<'worker> {
    /// Counters of the queue.
    pub counters: &'worker QueueCounters,
    /// Latencies of its requests.
    pub latency: &'worker mut LatencyRecorder,
    /// What is in flight, for the next process should this one be killed; none where the ring tells.
    pub in_flight: Option<&'worker mut QueueLog>,
}

/// What one pass adds up, written down once at its end.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// When it began, if it is timed.
    pub(super) taken_at: Option<Instant>,
    pub(super) taken: usize,
    completed: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    errors: u64,
    pub(super) faults: u64,
}

impl Pass {
    #[inline]
    pub(super) fn starting_at(taken_at: Option<Instant>) -> Self {
        Self {
            taken_at,
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.taken >= PASS_REQUESTS_MAX || self.bytes_read + self.bytes_written >= PASS_BYTES_MAX
    }

    #[inline]
    pub(super) fn count(&mut self, status: Status) {
        self.completed += 1;
        self.errors += u64::from(status != Status::Ok);
    }

    /// Writes the counts down.
    #[inline]
    pub(super) fn record(&self, records: &mut Records<'_>) {
        let counters = records.counters;
        counters.requests.add(self.completed);
        counters.bytes_read.add(self.bytes_read);
        counters.bytes_written.add(self.bytes_written);
        counters.errors.add(self.errors);
        counters.driver_faults.add(self.faults);
    }

    /// Writes down how long the requests that were taken and completed in this pass took. All of them became
    /// visible together, just now.
    #[inline]
    pub(super) fn record_latency(&self, records: &mut Records<'_>) {
        if self.completed > 0 {
            let done = records.latency.now_for(self.taken_at);
            records.latency.record(self.taken_at, done, self.completed);
        }
    }
}
