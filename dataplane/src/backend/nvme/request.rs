//! A request on its way: which commands are still to come, and what became of those that are over.
//!
//! # Safety
//!
//! Segments outlive the borrow that they came with. The contract of a backend allows that until the token is returned or
//! `abandon` has returned; a request has none after either.

#![allow(unsafe_code)]

use super::bounce::Place;
use crate::backend::verb::Verb;
use crate::backend::{Outcome, Token};
use crate::blk::{Data, Operation, Ranges, SectorRange};
use crate::limits::SEGMENTS_MAX;
use crate::mem::Segment;

/// A request, or room for one.
#[derive(Debug)]
pub(super) struct Request {
    /// None while nobody uses it.
    pub(super) token: Option<Token>,
    pub(super) verb: Verb,
    /// Of a read or a write.
    pub(super) range: SectorRange,
    pub(super) segments: Vec<Segment<'static>>,
    /// Of anything else.
    pub(super) ranges: Ranges,
    /// The device takes the data from where the driver has it.
    pub(super) is_direct: bool,
    /// Where the data of the next command begins.
    pub(super) place: Place,
    /// What was given to the device: bytes of data, ranges, or 1 for a flush.
    pub(super) issued: u64,
    /// Commands that the device has.
    pub(super) commands: u16,
    /// The first error.
    pub(super) failure: Option<Outcome>,
}

impl Request {
    /// Returns room for a request.
    pub(super) fn new() -> Self {
        Self {
            token: None,
            verb: Verb::Flush,
            range: SectorRange { first: 0, count: 0 },
            segments: Vec::with_capacity(SEGMENTS_MAX),
            ranges: Ranges::new(),
            is_direct: false,
            place: Place::default(),
            issued: 0,
            commands: 0,
            failure: None,
        }
    }

    /// Becomes `operation`, to be known as `token`. Returns whether a namespace can do that.
    #[inline]
    pub(super) fn begin(&mut self, token: Token, operation: &Operation<'_, '_>) -> bool {
        let (verb, range, data, ranges): (Verb, Option<SectorRange>, Data<'_, '_>, &[_]) =
            match *operation {
                Operation::Read { range, into } => (Verb::Read, Some(range), into, &[]),
                Operation::Write { range, from } => (Verb::Write, Some(range), from, &[]),
                Operation::Flush => (Verb::Flush, None, &[], &[]),
                Operation::Discard(ranges) => (Verb::Discard, None, &[], ranges),
                Operation::SecureErase(_) => return false,
                Operation::WriteZeroes { ranges, unmap } => {
                    (Verb::WriteZeroes { unmap }, None, &[], ranges)
                }
            };
        self.token = Some(token);
        self.verb = verb;
        self.range = range.unwrap_or(SectorRange { first: 0, count: 0 });
        self.segments.extend(data.iter().map(outliving));
        // The device takes none that is empty.
        self.ranges
            .extend(ranges.iter().copied().filter(|range| range.count > 0));
        self.restart();
        true
    }

    /// Goes back to its start: the device has none of its commands.
    pub(super) fn restart(&mut self) {
        self.place = Place::default();
        self.issued = 0;
        self.commands = 0;
        self.failure = None;
    }

    /// Forgets what it was, and lets go of the memory.
    #[inline]
    pub(super) fn end(&mut self) {
        self.token = None;
        self.segments.clear();
        self.ranges.clear();
    }

    /// Returns whether all was given to the device.
    #[inline]
    pub(super) fn is_issued(&self) -> bool {
        let whole = match self.verb {
            Verb::Read | Verb::Write => self.range.bytes(),
            Verb::Flush => 1,
            Verb::Discard | Verb::WriteZeroes { .. } => self.ranges.len() as u64,
        };
        self.issued >= whole
    }

    /// Returns how it ended, once it has.
    #[inline]
    pub(super) fn outcome(&self) -> Option<Outcome> {
        let over = self.commands == 0 && (self.failure.is_some() || self.is_issued());
        over.then(|| self.failure.unwrap_or(Outcome::Done))
    }
}

/// Returns `segment` for as long as its request is on its way.
fn outliving(segment: &Segment<'_>) -> Segment<'static> {
    // SAFETY: the worker keeps the memory of a pending operation mapped until its token is returned or `abandon` has
    // returned, and a request has no segment after either.
    unsafe { segment.outliving() }
}
