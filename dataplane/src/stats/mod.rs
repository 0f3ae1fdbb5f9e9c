//! What a queue counts: written by its worker alone, read by anyone.

mod counters;
mod errnos;
mod latency;

pub use counters::{Counter, QueueCounters, QueueSnapshot};
pub use errnos::ErrnoCounters;
pub use latency::{Histogram, LatencyRecorder, new_histogram};
