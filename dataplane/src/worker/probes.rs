//! Where tracers can look on: probes of SystemTap's format, provider `pollux`, for bpftrace, perf and gdb.
//!
//! A probe is one nop, and a note in the program that tells where that is and which registers have its arguments. It
//! stands where these are at hand. The first two arguments are the same for all: the queue's [`number`], and the head by
//! which its request is known until it completes.
//!
//! | probe | arguments after those | when |
//! |---|---|---|
//! | `begin` | | a request was taken out of its virtqueue; once more if the backend had no room for it |
//! | `submit` | bytes to read, bytes to write | the backend is about to get it; what is answered without it has none |
//! | `complete` | virtio-blk's status | its status is written; the driver sees it at the end of the pass |

use std::sync::atomic::{AtomicU32, Ordering};

use probe::probe;

use crate::blk::Status;

/// Returns a number that no other queue of the process has, by which tracers tell those of one thread apart. A queue that is
/// started anew gets another.
pub(super) fn number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

#[inline(always)]
pub(super) fn begin(queue: u32, head: u16) {
    probe!(pollux, begin, queue, head);
}

#[inline(always)]
pub(super) fn submit(queue: u32, head: u16, read_bytes: u64, write_bytes: u64) {
    probe!(pollux, submit, queue, head, read_bytes, write_bytes);
}

#[inline(always)]
pub(super) fn complete(queue: u32, head: u16, status: Status) {
    probe!(pollux, complete, queue, head, status);
}
