//! A wrapper that limits the requests and bytes of a disk in a second, over all of its queues.
//!
//! Every request counts as one; bytes are those that are read and written, so a flush, a discard or zeroes have none.
//! What is over a limit is held, in the order of its queue. Only the first request that a queue holds has taken from
//! the buckets: so queues take turns however many each of them holds, and what is abandoned leaves no debt.
//! To a worker they are held by its storage: those that have to wait for longer than a drain or `--io-timeout` fail in one.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use quanta::{Clock, Instant};

use super::held::Held;
use super::{Backend, BackendCounts, BackendQueue, DiskError, Outcome, Submission, Token};
use crate::blk::{Geometry, Operation};
use crate::mem::RegionTable;

mod bucket;

pub use bucket::Rate;
use bucket::{Bucket, TICKS_PER_NS};

/// What a disk may do in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests.
    pub iops: Option<Rate>,
    /// Bytes.
    pub bps: Option<Rate>,
}

/// A backend with limits.
#[derive(Debug)]
pub struct Throttle<B> {
    inner: B,
    buckets: Arc<Buckets>,
    clock: Clock,
}

/// A queue of a backend with limits.
#[derive(Debug)]
pub struct ThrottleQueue<Q> {
    inner: Q,
    buckets: Arc<Buckets>,
    held: Held,
    first: Option<Paid>,
    clock: Clock,
}

/// The first operation that a queue holds, once it has its place in the buckets.
#[derive(Clone, Copy, Debug)]
struct Paid {
    number: u64,
    due: Instant,
}

#[derive(Debug)]
struct Buckets {
    iops: Option<Bucket>,
    bps: Option<Bucket>,
    /// Tick 0.
    start: Instant,
}

impl Buckets {
    /// Takes a request of `data_bytes`. Returns from when on it may be carried out.
    fn take(&self, data_bytes: u64, now: Instant) -> Instant {
        let ns = u64::try_from(now.duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        let tick = ns.saturating_mul(TICKS_PER_NS);
        let take = |bucket: &Option<Bucket>, units: u64| {
            let bucket = bucket.as_ref().filter(|_| units > 0);
            bucket.map_or(tick, |bucket| bucket.take(units, tick))
        };
        let due = take(&self.iops, 1).max(take(&self.bps, data_bytes));
        self.start + Duration::from_nanos(due.div_ceil(TICKS_PER_NS))
    }
}

impl<B: Backend> Throttle<B> {
    /// Returns `inner` with `limits`.
    pub fn new(inner: B, limits: RateLimits) -> Self {
        Self::with_clock(inner, limits, Clock::new())
    }

    fn with_clock(inner: B, limits: RateLimits, clock: Clock) -> Self {
        let buckets = Buckets {
            iops: limits.iops.map(Bucket::new),
            bps: limits.bps.map(Bucket::new),
            start: clock.now(),
        };
        Self {
            inner,
            buckets: Arc::new(buckets),
            clock,
        }
    }

    /// Returns what is limited.
    pub fn inner(&self) -> &B {
        &self.inner
    }
}

impl<B: Backend> Backend for Throttle<B> {
    type Queue = ThrottleQueue<B::Queue>;

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn resized(&self, size_bytes: u64) -> Result<Geometry, DiskError> {
        self.inner.resized(size_bytes)
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        self.inner.resize(geometry)
    }

    fn open_queue(&self) -> std::io::Result<Self::Queue> {
        Ok(ThrottleQueue {
            inner: self.inner.open_queue()?,
            buckets: Arc::clone(&self.buckets),
            held: Held::new(),
            first: None,
            clock: self.clock.clone(),
        })
    }
}

impl<Q: BackendQueue> BackendQueue for ThrottleQueue<Q> {
    fn set_memory(&mut self, memory: &RegionTable) {
        self.inner.set_memory(memory);
    }

    fn set_write_through(&mut self, write_through: bool) {
        self.inner.set_write_through(write_through);
    }

    fn counts(&self) -> BackendCounts {
        self.inner.counts()
    }

    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        if !self.held.has_room(&operation) {
            return Submission::Busy;
        }
        let now = self.clock.now();
        if !self.held.is_empty() {
            self.held.hold(token, &operation, now);
            return Submission::Pending;
        }
        let due = self.buckets.take(operation.data_bytes(), now);
        if due <= now {
            let submission = self.inner.submit(token, operation);
            if submission != Submission::Busy {
                return submission;
            }
            // Put back it would pay again.
        }
        let number = self.held.hold(token, &operation, now);
        self.first = Some(Paid { number, due });
        Submission::Pending
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        if let Some(done) = self.inner.complete() {
            return Some(done);
        }
        let Self {
            inner,
            buckets,
            held,
            first,
            clock,
        } = self;
        let now = clock.now();
        held.hand_on(inner, |waiting| {
            let number = waiting.number();
            let pay = || Paid {
                number,
                due: buckets.take(waiting.data_bytes(), now),
            };
            let paid = first
                .filter(|paid| paid.number == number)
                .unwrap_or_else(pay);
            *first = Some(paid);
            paid.due <= now
        })
    }

    fn in_flight(&self) -> usize {
        self.held.len() + self.inner.in_flight()
    }

    fn abort(&mut self) -> Duration {
        self.inner.abort()
    }

    fn abandon(&mut self) {
        self.held.clear();
        self.inner.abandon();
    }

    /// Nothing signals that a time is over.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        let holds = !self.held.is_empty();
        self.inner.completion_fd().filter(|_| !holds)
    }
}

#[cfg(test)]
mod tests;
