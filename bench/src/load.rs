//! What a load generator measured.

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
