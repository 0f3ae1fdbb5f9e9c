//! Latency histograms: from taking a request off the avail ring to publishing it in the used ring.

use std::hint::black_box;
use std::num::NonZeroU32;

use quanta::{Clock, Instant};

use crate::limits::LATENCY_NS_MAX;

/// Latencies in nanoseconds, to three significant digits.
pub type Histogram = hdrhistogram::Histogram<u64>;

/// Returns an empty histogram that never grows, so that recording does not allocate, and whose memory is there.
pub fn new_histogram() -> Histogram {
    let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
    let mut histogram = histogram.expect("the bounds are constants in range");
    // Fresh memory is zeros, but no page of it exists before it is written to.
    black_box(&mut histogram).clear();
    histogram
}

/// Times one pass in so many: what it takes becomes visible to the driver together, so one look at the clock
/// at either end serves all of it.
#[derive(Debug)]
pub struct LatencyRecorder {
    clock: Clock,
    histogram: Box<Histogram>,
    /// One pass in this many is timed.
    every: u32,
    /// Passes until the next one that is.
    left: u32,
}

impl LatencyRecorder {
    /// Returns a recorder that times one pass in `every`.
    pub fn new(clock: Clock, every: NonZeroU32) -> Self {
        Self {
            clock,
            histogram: Box::new(new_histogram()),
            every: every.get(),
            left: 1,
        }
    }

    /// Returns what was recorded since the last time, in exchange for `empty`.
    pub fn swap(&mut self, empty: Box<Histogram>) -> Box<Histogram> {
        std::mem::replace(&mut self.histogram, empty)
    }

    /// Begins a pass. Returns the time if this pass is one to be timed.
    #[inline]
    pub fn begin(&mut self) -> Option<Instant> {
        self.left -= 1;
        if self.left > 0 {
            return None;
        }
        self.left = self.every;
        Some(self.clock.now())
    }

    /// Returns the time if a request that began at `begun` is one that is timed.
    #[inline]
    pub fn now_for(&self, begun: Option<Instant>) -> Option<Instant> {
        begun.map(|_| self.clock.now())
    }

    /// Records `count` requests that were taken at `begun` and are visible to the driver at `done`; nothing
    /// where they were not timed.
    #[inline]
    pub fn record(&mut self, begun: Option<Instant>, done: Option<Instant>, count: u64) {
        if let (Some(begun), Some(done)) = (begun, done) {
            let latency = done.saturating_duration_since(begun).as_nanos() as u64;
            // In range by the clamp, so it never fails.
            let _ = self
                .histogram
                .record_n(latency.clamp(1, LATENCY_NS_MAX), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_pass_in_three_is_timed_the_first_included() {
        let every = NonZeroU32::new(3).expect("not zero");
        let mut recorder = LatencyRecorder::new(Clock::new(), every);
        for pass in 0..9 {
            let begun = recorder.begin();
            assert_eq!(begun.is_some(), pass % 3 == 0, "pass {pass}");
            let done = begun.map(|begun| begun + Duration::from_micros(5));
            recorder.record(begun, done, 2);
        }
        let recorded = recorder.swap(Box::new(new_histogram()));
        assert_eq!(recorded.len(), 6);
        assert!(recorded.max().abs_diff(5_000) < 10, "{}", recorded.max());
        assert_eq!(recorder.swap(Box::new(new_histogram())).len(), 0);
    }
}
