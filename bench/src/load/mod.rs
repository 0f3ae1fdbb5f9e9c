//! What loads a disk, and what it measured.

mod closed;
mod once;
mod open;
mod recorder;
#[cfg(test)]
mod server;

use serde::{Deserialize, Serialize};

pub(crate) use closed::closed;
pub(crate) use once::once;
pub(crate) use open::open;
pub(crate) use recorder::{Completed, Measured};

/// What one load measured after its ramp time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// Requests completed a second.
    pub iops: f64,
    /// From before the submission of a request to its completion. Of fio that is `lat` (slat + clat):
    /// with io_uring `clat` alone would leave out the submitting system call, where a kick is paid.
    pub latency_ns: LatencyNs,
    /// Requests completed.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
}

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LatencyNs {
    /// Shortest.
    pub min: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

impl LatencyNs {
    /// Returns those of `histogram`, which counts nanoseconds.
    pub fn of(histogram: &hdrhistogram::Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
        }
    }
}

/// The client's end of a virtqueue. Times are raw ones of the clock that the load uses.
pub(crate) trait Requests {
    /// Puts the next request in, begun at `started`, for the next [`publish`](Self::publish). Returns false
    /// when there is no room.
    fn submit(&mut self, started: u64) -> bool;

    /// Shows the device what was put in.
    fn publish(&mut self);

    /// Takes back all that is done, into `completed`.
    fn reap(&mut self, completed: &mut Completed);
}

/// When to measure, and who is to know.
pub(crate) struct Window<'a> {
    /// Load before the measured time, in ns.
    pub(crate) ramp_ns: u64,
    /// Measured time, in ns.
    pub(crate) runtime_ns: u64,
    /// Called as the measured time begins, and after it.
    pub(crate) mark: &'a mut dyn FnMut(),
    /// Whether the user wants it to end.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// Why a load ended early.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("no request was completed for {0} s: the device does not answer; see its faults")]
    Stalled(u64),
    #[error("stopped")]
    Stopped,
    #[error("no request was completed in the measured time; use a longer runtime_ms")]
    Nothing,
}
