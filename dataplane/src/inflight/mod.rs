//! The in-flight log: what a daemon that is killed leaves for the next one, so that no request is lost and none is
//! returned twice.
//!
//! It is a file that the workers write through a shared mapping, little-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `POLLUXIF` |
//! | 8 | 4 | version, 2 |
//! | 12 | 2 | virtqueues |
//! | 14 | 2 | entries of each, n |
//! | 4096 × (1 + i × pages) | | area of virtqueue i, in whole pages |
//!
//! An area:
//!
//! | bytes | what |
//! |---|---|
//! | 2 | split: `used_idx`, once everything before it was cleared |
//! | 2 | 1 while a split ring is served, 2 while a packed one is |
//! | 4 | |
//! | 8 | packed: number of the last batch |
//! | 48 | |
//! | 8 × n | for each head, or buffer ID: 0, or the number of the request in flight; later ones have larger numbers |
//! | 2 × (16 + 16 × max(n, 16)) | packed: the batch with an even number and the one with an odd number |
//! | 16 × n | packed: copies of descriptors, linked as in a split ring; the last one of a chain has its buffer ID |
//! | 4 × n | packed: for each buffer ID the place of its first copy (2 bytes) and how many there are |
//!
//! A batch is what a pass returns: the number of the last request before it (8), where the ring is behind it (`next_avail`
//! 2, `next_used` 2), how many used descriptors there are (4), and for each its place (8) and its second word (8).
//!
//! # Why it survives a kill at any instruction
//!
//! Stores happen in this order, and a kill cuts it anywhere. In a split ring:
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
//! behind `used_idx`.
//!
//! A packed ring is written over by what is returned, and then by the driver. Therefore nothing of a pass is in the ring
//! until the log has all of it:
//!
//! 1. A request that the backend keeps is copied: its descriptors, then `entry = number`. Killed before or behind it: the
//!    ring still has it, and a number above the last batch's does not count.
//! 2. The batch of the pass, beside the last one; then its number. Killed before: the pass never happened, and its
//!    requests are executed again.
//! 3. The used descriptors, the first one last. Killed before, or in between: the driver has seen none of them, and the
//!    next daemon writes them all again. The first one in the ring tells.
//! 4. `entry = 0` for each of them. Killed before: the batch tells which are to be cleared.
//!
//! So the requests in flight are the entries up to the batch's number that it does not return, and the first one that was
//! never taken is at its `next_avail`.
//!
//! Where chains are returned in order, everything from `used_idx` or `next_used` on is in flight or new: a split ring needs no
//! log then, a packed one only its batches.

/// Every store of the log goes through here.
macro_rules! store {
    ($cell:expr, $value:expr) => {
        crate::mem::kill::point();
        $cell.store($value, std::sync::atomic::Ordering::Release);
    };
}

mod log;
mod logged;
mod packed_log;
mod queue_log;
mod split_log;
#[cfg(test)]
mod tests;

pub use log::{InFlightLog, LogError};
pub use logged::Logged;
pub use queue_log::QueueLog;
