//! Latency histograms: from taking a request off the avail ring to publishing it in the used ring.

use crate::limits::LATENCY_NS_MAX;

/// Latencies in nanoseconds, to three significant digits.
pub type Histogram = hdrhistogram::Histogram<u64>;

/// Returns an empty histogram that never grows, so that recording does not allocate.
pub fn new_histogram() -> Histogram {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants in range")
}
