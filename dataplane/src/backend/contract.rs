//! What every backend promises.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::DiskError;
use crate::blk::{Geometry, Operation};
use crate::mem::RegionTable;

/// Names a request that a backend has accepted and not yet completed. Unique in its queue.
pub type Token = u16;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done.
    Done,
    /// It failed on the host; what it was to do may be half done.
    Failed {
        /// Why, as errno.
        errno: i32,
    },
    /// This storage cannot do that.
    Unsupported,
}

/// What became of an operation that was handed to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submission {
    /// It is over already.
    Complete(Outcome),
    /// It will be returned by [`BackendQueue::complete`].
    Pending,
    /// There is no room now. Nothing was kept; hand it in again after a completion.
    Busy,
}

/// What a queue has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounts {
    /// System calls.
    pub system_calls: u64,
    /// Operations whose data went straight to or from registered memory.
    pub registered: u64,
    /// Operations whose data was copied, because of where the driver has it.
    pub copied: u64,
}

/// One disk. Shared by the queues of a device.
pub trait Backend: Send + Sync {
    /// One queue's own way into the storage.
    type Queue: BackendQueue + 'static;

    /// Returns the properties of the disk.
    fn geometry(&self) -> &Geometry;

    /// Opens a queue: its own io_uring, its own NVMe queue pair.
    ///
    /// # Errors
    ///
    /// What the host said.
    fn open_queue(&self) -> std::io::Result<Self::Queue>;

    /// Returns what the properties would be with another size.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when the disk cannot have it.
    fn resized(&self, size_bytes: u64) -> Result<Geometry, DiskError>;

    /// Takes on `geometry`, as [`resized`](Self::resized) returned it. What is added reads as zeros; what is
    /// taken away must not be in use by a queue any more. Queues stay open.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when the storage is not to be had; nothing has changed then.
    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError>;
}

/// A queue into the storage, owned by one worker.
///
/// The memory of a pending operation stays mapped until its token is returned or
/// [`abandon`](Self::abandon) has returned; a backend may keep its addresses that long and no longer.
pub trait BackendQueue: Send {
    /// Told, with nothing pending, in which memory all operations to come lie; that of before goes away afterwards. A
    /// backend may register it with the kernel or a device.
    fn set_memory(&mut self, _memory: &RegionTable) {}

    /// Told, with nothing pending, whether a write is to be durable by the time it completes: the driver does not flush.
    fn set_write_through(&mut self, _write_through: bool) {}

    /// Starts `operation`, to be known as `token`.
    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission;

    /// Called once after each batch of submissions: the place for one system call or doorbell.
    fn commit(&mut self) {}

    /// Takes one finished operation, without waiting.
    fn complete(&mut self) -> Option<(Token, Outcome)> {
        None
    }

    /// Returns how many operations are pending.
    fn in_flight(&self) -> usize {
        0
    }

    /// Returns what it has done so far.
    fn counts(&self) -> BackendCounts {
        BackendCounts::default()
    }

    /// Asks the storage to end everything pending itself. Returns how long that may take: no time where it cannot be asked.
    /// What ends by then is returned by [`complete`](Self::complete), however it ended; what does not is given up, and
    /// [`abandon`](Self::abandon) follows in any case.
    fn abort(&mut self) -> Duration {
        Duration::ZERO
    }

    /// Gives up everything pending. When it returns, nothing touches the memory of those operations any
    /// more, none of their tokens is returned again, and new operations may be submitted.
    fn abandon(&mut self) {}

    /// Returns a descriptor that is readable when [`complete`](Self::complete) has something, for a
    /// worker that is about to sleep. With `None` it keeps polling while something is pending, until it asks again.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A queue whose kind only the one who opened it knows.
impl<Q: BackendQueue + ?Sized> BackendQueue for Box<Q> {
    fn set_memory(&mut self, memory: &RegionTable) {
        (**self).set_memory(memory);
    }

    fn set_write_through(&mut self, write_through: bool) {
        (**self).set_write_through(write_through);
    }

    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        (**self).submit(token, operation)
    }

    fn commit(&mut self) {
        (**self).commit();
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        (**self).complete()
    }

    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }

    fn counts(&self) -> BackendCounts {
        (**self).counts()
    }

    fn abort(&mut self) -> Duration {
        (**self).abort()
    }

    fn abandon(&mut self) {
        (**self).abandon();
    }

    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).completion_fd()
    }
}
