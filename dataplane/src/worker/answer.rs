//! What a request is answered with.

use crate::backend::Outcome;
use crate::blk::{Geometry, Status};
use crate::mem::Segment;
use crate::stats::QueueCounters;

/// What a request is answered with.
pub(super) struct Answer {
    pub(super) status: Status,
    /// Data bytes that the device wrote.
    pub(super) written: u32,
    /// All that the driver gave room for, should the status be OK.
    pub(super) whole: bool,
}

impl Answer {
    #[inline]
    pub(super) fn of(status: Status, written: u32, whole: bool) -> Self {
        Self {
            status,
            written,
            whole,
        }
    }
}

/// Returns the status of what ended with `outcome`; one that the host caused is counted.
#[inline]
pub(super) fn status_of(outcome: Outcome, counters: &QueueCounters) -> Status {
    match outcome {
        Outcome::Done => Status::Ok,
        Outcome::Failed { errno } => {
            counters.host_errors.count(errno);
            Status::IoError
        }
        Outcome::Unsupported => Status::Unsupported,
    }
}

/// Writes as much of the serial as fits. Returns how many bytes that is.
pub(super) fn write_serial(geometry: &Geometry, into: &[Segment<'_>]) -> u32 {
    let mut written = 0;
    for segment in into {
        written += segment.copy_from(&geometry.serial[written..]);
    }
    written as u32
}
