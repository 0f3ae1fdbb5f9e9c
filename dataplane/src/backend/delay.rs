//! A wrapper that makes any backend slow: an operation is held for a while, then handed on.
//!
//! It is carried out when its time is over, not before: until then a write is in no storage, and a flush covers the
//! writes that are completed by the time it is carried out, as on any disk.
//!
//! # Safety
//!
//! Segments of held operations outlive the borrow that they came with. The contract of a backend allows that until
//! the token is returned or `abandon` has returned; none is used here after either.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::time::Duration;

use quanta::{Clock, Instant};

use super::{Backend, BackendCounts, BackendQueue, DiskError, Outcome, Submission, Token};
use crate::blk::{Data, Geometry, Operation, Ranges, SectorRange};
use crate::limits::{QUEUE_SIZE_MAX, RANGES_MAX, SEGMENTS_MAX};
use crate::mem::{RegionTable, Segment};

/// Room of a queue, in the longest requests; with more than that it is busy.
const LONGEST_HELD: usize = 16;

/// How long an operation is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// For this long; not at all for zero.
    For(Duration),
    /// It never completes, as on a device that is gone.
    Forever,
}

/// Latencies of a wrapped backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// Of reads.
    pub read: Latency,
    /// Of everything else: writes, flushes, discards, zeroes.
    pub write: Latency,
}

/// A backend made slow.
#[derive(Debug)]
pub struct Delay<B> {
    inner: B,
    latencies: Latencies,
}

/// A queue of a backend made slow.
#[derive(Debug)]
pub struct DelayQueue<Q> {
    inner: Q,
    reads: Line,
    writes: Line,
    clock: Clock,
    /// The operation that is handed on.
    segments: Vec<Segment<'static>>,
    ranges: Ranges,
}

/// What is asked, without its data and ranges.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Read(SectorRange),
    Write(SectorRange),
    Flush,
    Discard,
    WriteZeroes { unmap: bool },
}

/// An operation that waits.
#[derive(Clone, Copy, Debug)]
struct Held {
    token: Token,
    verb: Verb,
    /// When its time is over, if ever.
    due: Option<Instant>,
    segments: usize,
    ranges: usize,
}

/// Operations of one latency, so the first in is the first out. None of its queues grows.
#[derive(Debug)]
struct Line {
    latency: Latency,
    held: VecDeque<Held>,
    /// Data of all that is held.
    segments: VecDeque<Segment<'static>>,
    ranges: VecDeque<SectorRange>,
}

impl<B: Backend> Delay<B> {
    /// Returns `inner` with `latencies`.
    pub fn new(inner: B, latencies: Latencies) -> Self {
        Self { inner, latencies }
    }

    /// Returns what is slow.
    pub fn inner(&self) -> &B {
        &self.inner
    }
}

impl<B: Backend> Backend for Delay<B> {
    type Queue = DelayQueue<B::Queue>;

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
        Ok(DelayQueue {
            inner: self.inner.open_queue()?,
            reads: Line::new(self.latencies.read),
            writes: Line::new(self.latencies.write),
            clock: Clock::new(),
            segments: Vec::with_capacity(SEGMENTS_MAX),
            ranges: Ranges::new(),
        })
    }
}

impl<Q: BackendQueue> BackendQueue for DelayQueue<Q> {
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
        let line = match operation {
            Operation::Read { .. } => &mut self.reads,
            _ => &mut self.writes,
        };
        match line.latency {
            Latency::For(Duration::ZERO) => self.inner.submit(token, operation),
            Latency::For(time) => line.hold(token, &operation, Some(self.clock.now() + time)),
            Latency::Forever => line.hold(token, &operation, None),
        }
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        if let Some(done) = self.inner.complete() {
            return Some(done);
        }
        let now = self.clock.now();
        for line in [&mut self.reads, &mut self.writes] {
            while let Some(held) = line.due(now) {
                line.copy_first(&held, &mut self.segments, &mut self.ranges);
                let operation = held.verb.operation(&self.segments, &self.ranges);
                match self.inner.submit(held.token, operation) {
                    Submission::Complete(outcome) => {
                        line.remove_first(&held);
                        return Some((held.token, outcome));
                    }
                    Submission::Pending => {
                        line.remove_first(&held);
                        self.inner.commit();
                    }
                    // It has its turn again after a completion.
                    Submission::Busy => break,
                }
            }
        }
        None
    }

    fn in_flight(&self) -> usize {
        self.reads.held.len() + self.writes.held.len() + self.inner.in_flight()
    }

    fn abandon(&mut self) {
        self.reads.clear();
        self.writes.clear();
        self.segments.clear();
        self.inner.abandon();
    }

    /// Nothing signals that a time is over.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        let holds = !self.reads.held.is_empty() || !self.writes.held.is_empty();
        self.inner.completion_fd().filter(|_| !holds)
    }
}

impl Verb {
    fn operation<'a>(self, data: Data<'a, 'a>, ranges: &'a [SectorRange]) -> Operation<'a, 'a> {
        match self {
            Self::Read(range) => Operation::Read { range, into: data },
            Self::Write(range) => Operation::Write { range, from: data },
            Self::Flush => Operation::Flush,
            Self::Discard => Operation::Discard(ranges),
            Self::WriteZeroes { unmap } => Operation::WriteZeroes { ranges, unmap },
        }
    }
}

impl Line {
    fn new(latency: Latency) -> Self {
        Self {
            latency,
            held: VecDeque::with_capacity(usize::from(QUEUE_SIZE_MAX)),
            segments: VecDeque::with_capacity(LONGEST_HELD * SEGMENTS_MAX),
            ranges: VecDeque::with_capacity(LONGEST_HELD * RANGES_MAX),
        }
    }

    fn hold(
        &mut self,
        token: Token,
        operation: &Operation<'_, '_>,
        due: Option<Instant>,
    ) -> Submission {
        let (verb, data, ranges): (Verb, Data<'_, '_>, &[SectorRange]) = match *operation {
            Operation::Read { range, into } => (Verb::Read(range), into, &[]),
            Operation::Write { range, from } => (Verb::Write(range), from, &[]),
            Operation::Flush => (Verb::Flush, &[], &[]),
            Operation::Discard(ranges) => (Verb::Discard, &[], ranges),
            Operation::WriteZeroes { ranges, unmap } => (Verb::WriteZeroes { unmap }, &[], ranges),
        };
        let has_room = has_room(&self.held, 1)
            && has_room(&self.segments, data.len())
            && has_room(&self.ranges, ranges.len());
        if !has_room {
            return Submission::Busy;
        }
        self.held.push_back(Held {
            token,
            verb,
            due,
            segments: data.len(),
            ranges: ranges.len(),
        });
        self.segments.extend(data.iter().filter_map(outliving));
        self.ranges.extend(ranges);
        Submission::Pending
    }

    /// Returns the first operation if its time is over.
    fn due(&self, now: Instant) -> Option<Held> {
        let first = self.held.front().copied()?;
        first.due.filter(|due| *due <= now).map(|_| first)
    }

    /// Copies data and ranges of the first operation, which is `held`.
    fn copy_first(&self, held: &Held, segments: &mut Vec<Segment<'static>>, ranges: &mut Ranges) {
        segments.clear();
        segments.extend(self.segments.iter().take(held.segments));
        ranges.clear();
        ranges.extend(self.ranges.iter().take(held.ranges).copied());
    }

    fn remove_first(&mut self, held: &Held) {
        self.held.pop_front();
        self.segments.drain(..held.segments);
        self.ranges.drain(..held.ranges);
    }

    fn clear(&mut self) {
        self.held.clear();
        self.segments.clear();
        self.ranges.clear();
    }
}

fn has_room<T>(queue: &VecDeque<T>, count: usize) -> bool {
    queue.capacity() - queue.len() >= count
}

/// Returns `segment` for as long as its operation is held.
fn outliving(segment: &Segment<'_>) -> Option<Segment<'static>> {
    let start = NonNull::new(segment.as_ptr())?;
    // SAFETY: the worker keeps the memory of a pending operation mapped until its token is returned or `abandon`
    // has returned, and this queue does not use the segment after either.
    Some(unsafe { Segment::new(start, segment.len()) })
}
