//! What one pass adds up, and where it is written down.

use std::time::Instant;

use crate::blk::Status;
use crate::limits::{LATENCY_NS_MAX, PASS_BYTES_MAX, PASS_REQUESTS_MAX};
use crate::stats::{Histogram, QueueCounters};

/// Where a pass writes down what happened.
#[derive(Debug)]
pub struct Records<'worker> {
    /// Counters of the queue.
    pub counters: &'worker QueueCounters,
    /// Latencies of its requests.
    pub latency: &'worker mut Histogram,
}

/// What one pass adds up, written down once at its end.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) taken_at: Instant,
    pub(super) taken: usize,
    completed: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    errors: u64,
    pub(super) faults: u64,
}

impl Pass {
    pub(super) fn starting_at(taken_at: Instant) -> Self {
        let (taken, completed, bytes_read, bytes_written, errors, faults) = (0, 0, 0, 0, 0, 0);
        Self {
            taken_at,
            taken,
            completed,
            bytes_read,
            bytes_written,
            errors,
            faults,
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

    /// One look at the clock serves all requests of the pass: they become visible together.
    #[inline]
    pub(super) fn record(&self, records: &mut Records<'_>) {
        let counters = records.counters;
        counters.requests.add(self.completed);
        counters.bytes_read.add(self.bytes_read);
        counters.bytes_written.add(self.bytes_written);
        counters.errors.add(self.errors);
        counters.driver_faults.add(self.faults);
        if self.completed > 0 {
            let latency = self.taken_at.elapsed().as_nanos() as u64;
            let latency = latency.clamp(1, LATENCY_NS_MAX);
            // In range by the clamp, so it never fails.
            let _ = records.latency.record_n(latency, self.completed);
        }
    }
}
