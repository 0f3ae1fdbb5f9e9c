//! What control gives a worker to start with, and gets back when it stops.

use std::sync::Arc;

use crate::mem::RegionTable;
use crate::ring::{QueueConfig, RingState};

/// A queue to serve.
#[derive(Clone, Debug)]
pub struct QueueSetup {
    /// Where the driver put it.
    pub queue: QueueConfig,
    /// The driver's memory.
    pub table: Arc<RegionTable>,
    /// The driver does not flush, so a write is durable when it completes.
    pub write_through: bool,
}

/// How a queue was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Where the next one to serve it goes on; `None` when no queue was served.
    pub state: Option<RingState>,
    /// Requests that the backend did not finish in time; they were abandoned and answered with an
    /// error.
    pub abandoned: usize,
}
