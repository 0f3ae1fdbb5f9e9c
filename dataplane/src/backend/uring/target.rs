//! What entries a kind of storage takes, and what their results mean.

use io_uring::{cqueue, squeue};

use super::request::{Limits, Part, Progress, Request};
use crate::backend::Outcome;
use crate::blk::SectorRange;

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Ended {
    /// So many bytes of what was asked were done.
    Did(u64),
    /// The request goes on or ends like this.
    Otherwise(Progress),
}

/// A kind of storage.
pub(in crate::backend) trait Target: std::fmt::Debug + Send + Sync {
    type Submission: squeue::EntryMarker;
    type Completion: cqueue::EntryMarker;

    /// Returns what bounds its entries.
    fn limits(&self) -> Limits;

    /// Returns the entry that does what is next of `request`, with the data in `part`; if `durable`, a write that
    /// completes does not get lost.
    fn entry(&self, request: &mut Request, part: Part, durable: bool) -> Self::Submission;

    /// Erases `ranges` for good before it returns, since io_uring cannot.
    fn secure_erase(&self, _ranges: &[SectorRange]) -> Outcome {
        Outcome::Unsupported
    }

    /// Returns what `result` of such an entry means.
    fn ended(&self, request: &mut Request, result: i32) -> Ended;
}
