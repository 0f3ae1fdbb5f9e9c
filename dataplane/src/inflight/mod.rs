//! The in-flight log: what a daemon that is killed leaves for the next one, so that no request is lost and none is
//! returned twice.
//!
//! It is a file that the workers write through a shared mapping, little-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `POLLUXIF` |
//! | 8 | 4 | version, 1 |
//! | 12 | 2 | virtqueues |
//! | 14 | 2 | entries of each |
//! | 4096 × (1 + n × pages) | | area of virtqueue n, in whole pages |
//!
//! An area:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 2 | `used_idx`, once everything before it was cleared |
//! | 2 | 2 | 1 while the queue is served |
//! | 64 | 8 a head | 0, or the number of the request in flight: later ones have larger numbers |
//!
//! # Why it survives a kill at any instruction
//!
//! Stores happen in this order, and a kill cuts it anywhere:
//!
//! 1. `entry = number`, before the backend learns of the request. Killed before: nothing has happened, and the
//!    next daemon takes the request from the avail ring.
//! 2. The used elements of a pass, then the ring's `used_idx`. Killed before: the request is executed again, which
//!    does no harm, since the driver has not seen it complete.
//! 3. `entry = 0` for each of them. Killed before, or in between: the used elements from the log's `used_idx` to
//!    the ring's tell which are to be cleared.
//! 4. The log's `used_idx`. Killed before: clearing again does no harm, since no request was taken since.
//!
//! So the requests in flight are the entries that are left, and the first one that was never taken is that many
//! behind `used_idx`. A queue whose chains are returned in order needs none of this: everything from `used_idx` on
//! is in flight or new.

#[cfg(test)]
pub(crate) mod kill;
mod log;
mod queue_log;

pub use log::{InFlightLog, LogError};
pub use queue_log::QueueLog;
