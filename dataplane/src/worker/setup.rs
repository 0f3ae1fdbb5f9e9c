//! What control gives a worker to start with, and gets back when it stops.

use std::sync::Arc;

use crate::mem::RegionTable;
use crate::ring::QueueConfig;

/// A queue to serve.
#[derive(Clone, Debug)]
pub struct QueueSetup {
    /// Where the driver put it.
    pub queue: QueueConfig,
    /// The driver's memory.
    pub table: Arc<RegionTable>,
}

/// How a queue was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The next avail entry that would have been taken; `None` when no queue was served.
    pub next_avail: Option<u16>,
    /// Packed: the next used descriptor that would have been written.
    pub next_used: u16,
    /// Requests that the backend did not finish in time; they were abandoned and answered with an
    /// error.
    pub abandoned: usize,
}
