//! Operations that a wrapper holds for later, in room that does not grow.
//!
//! # Safety
//!
//! Segments of held operations outlive the borrow that they came with. The contract of a backend allows that until
//! the token is returned or `abandon` has returned; none is used here after either.

#![allow(unsafe_code)]

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use quanta::Instant;

use super::{BackendQueue, Outcome, Submission, Token};
use crate::blk::{Data, Operation, Ranges, SectorRange};
use crate::limits::{QUEUE_SIZE_MAX, RANGES_MAX, SEGMENTS_MAX};
use crate::mem::Segment;

mod pool;

use pool::{List, Pool};

/// Room of a queue, in the longest requests.
const LONGEST_HELD: usize = 16;

/// What is held of one queue, the first due first. Those of one time leave in the order that they came in.
#[derive(Debug)]
pub(super) struct Held {
    waiting: BinaryHeap<Waiting>,
    segments: Pool<Segment<'static>>,
    ranges: Pool<SectorRange>,
    /// Operations that were ever held.
    count: u64,
    /// Of the operation that is handed on.
    handed_data: Vec<Segment<'static>>,
    handed_ranges: Ranges,
}

/// An operation that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    due: Instant,
    number: u64,
    token: Token,
    verb: Verb,
    segments: List,
    ranges: List,
}

/// What is asked, without its data and ranges.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Read(SectorRange),
    Write(SectorRange),
    Flush,
    Discard,
    SecureErase,
    WriteZeroes { unmap: bool },
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            waiting: BinaryHeap::with_capacity(usize::from(QUEUE_SIZE_MAX)),
            segments: Pool::with_capacity(LONGEST_HELD * SEGMENTS_MAX),
            ranges: Pool::with_capacity(LONGEST_HELD * RANGES_MAX),
            count: 0,
            handed_data: Vec::with_capacity(SEGMENTS_MAX),
            handed_ranges: Ranges::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has_room(&self, operation: &Operation<'_, '_>) -> bool {
        let (_, data, ranges) = parts(operation);
        self.waiting.len() < self.waiting.capacity()
            && self.segments.has_room(data.len())
            && self.ranges.has_room(ranges.len())
    }

    /// Holds `operation`, for which there is room, until `due`. Returns its number.
    pub(super) fn hold(
        &mut self,
        token: Token,
        operation: &Operation<'_, '_>,
        due: Instant,
    ) -> u64 {
        let (verb, data, ranges) = parts(operation);
        self.count += 1;
        self.waiting.push(Waiting {
            due,
            number: self.count,
            token,
            verb,
            segments: self.segments.store(data.iter().map(outliving)),
            ranges: self.ranges.store(ranges.iter().copied()),
        });
        self.count
    }

    /// Hands on to `inner` what is due first, as long as `may` says that it may go, until one is complete, which is
    /// returned, or `inner` is busy.
    pub(super) fn hand_on(
        &mut self,
        inner: &mut impl BackendQueue,
        mut may: impl FnMut(&Waiting) -> bool,
    ) -> Option<(Token, Outcome)> {
        let mut kept = false;
        let mut done = None;
        while done.is_none()
            && let Some(&first) = self.waiting.peek().filter(|first| may(first))
        {
            match self.submit(&first, inner) {
                Submission::Complete(outcome) => done = Some((first.token, outcome)),
                Submission::Pending => kept = true,
                // It has its turn again after a completion.
                Submission::Busy => break,
            }
            self.waiting.pop();
            self.segments.free(first.segments);
            self.ranges.free(first.ranges);
        }
        if kept {
            inner.commit();
        }
        done
    }

    fn submit(&mut self, waiting: &Waiting, inner: &mut impl BackendQueue) -> Submission {
        let Waiting {
            token,
            verb,
            segments,
            ranges,
            ..
        } = *waiting;
        self.handed_data.clear();
        self.handed_data.extend(self.segments.items(segments));
        self.handed_ranges.clear();
        self.handed_ranges.extend(self.ranges.items(ranges));
        inner.submit(
            token,
            verb.operation(&self.handed_data, &self.handed_ranges),
        )
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 2] {
        [self.waiting.capacity(), self.handed_data.capacity()]
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.segments.clear();
        self.ranges.clear();
        self.handed_data.clear();
    }
}

impl Waiting {
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Returns what tells it from all others that were ever held of its queue.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the bytes that are read from or written to driver memory.
    pub(super) fn data_bytes(&self) -> u64 {
        self.verb.operation(&[], &[]).data_bytes()
    }
}

/// The first due is the greatest, as the heap has it.
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl Verb {
    fn operation<'a>(self, data: Data<'a, 'a>, ranges: &'a [SectorRange]) -> Operation<'a, 'a> {
        match self {
            Self::Read(range) => Operation::Read { range, into: data },
            Self::Write(range) => Operation::Write { range, from: data },
            Self::Flush => Operation::Flush,
            Self::Discard => Operation::Discard(ranges),
            Self::SecureErase => Operation::SecureErase(ranges),
            Self::WriteZeroes { unmap } => Operation::WriteZeroes { ranges, unmap },
        }
    }
}

fn parts<'a>(operation: &Operation<'a, 'a>) -> (Verb, Data<'a, 'a>, &'a [SectorRange]) {
    match *operation {
        Operation::Read { range, into } => (Verb::Read(range), into, &[]),
        Operation::Write { range, from } => (Verb::Write(range), from, &[]),
        Operation::Flush => (Verb::Flush, &[], &[]),
        Operation::Discard(ranges) => (Verb::Discard, &[], ranges),
        Operation::SecureErase(ranges) => (Verb::SecureErase, &[], ranges),
        Operation::WriteZeroes { ranges, unmap } => (Verb::WriteZeroes { unmap }, &[], ranges),
    }
}

/// Returns `segment` for as long as its operation is held.
fn outliving(segment: &Segment<'_>) -> Segment<'static> {
    // SAFETY: the worker keeps the memory of a pending operation mapped until its token is returned or `abandon`
    // has returned, and no wrapper uses the segment after either.
    unsafe { segment.outliving() }
}
