//! A worker's own way into a storage.
//!
//! # Safety
//!
//! What an entry names is the request's, the queue's own or the driver's memory. A request is kept until its
//! completion was taken, the queue until nothing is pending, and the worker keeps the driver's memory mapped until the
//! token is returned or `abandon` has returned, which waits for the kernel.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::copy::Buffers;
use super::pieces::{Long, Pieces};
use super::request::{Limits, Part, Progress, Request};
use super::ring::{Ring, RingOptions};
use super::target::{Ended, Target};
use crate::backend::verb::Verb;
use crate::backend::{BackendCounts, BackendQueue, Outcome, Submission, Token};
use crate::blk::{Data, Operation, SectorRange};
use crate::limits::{QUEUE_SIZE_MAX, RANGES_MAX};
use crate::mem::RegionTable;

/// Requests with several ranges, at most.
const RANGED_MAX: usize = 16;

/// A queue into storage that is reached through an io_uring.
#[derive(Debug)]
#[expect(private_bounds, reason = "what storage there is, is decided here")]
pub struct UringQueue<T: Target> {
    target: Arc<T>,
    limits: Limits,
    rings: Rings<T>,
    /// By token.
    requests: Box<[Option<Request>]>,
    in_flight: usize,
    buffers: Buffers,
    long: Long,
    ranges: Vec<Vec<SectorRange>>,
    write_through: bool,
    /// There was no completion, and the kernel was not entered since.
    is_dry: bool,
    registered: u64,
    copied: u64,
}

/// Where entries go.
#[derive(Debug)]
struct Rings<T: Target> {
    data: Ring<T::Submission, T::Completion>,
    /// For what a polled ring does not take.
    other: Option<Ring<T::Submission, T::Completion>>,
}

#[expect(private_bounds, reason = "what storage there is, is decided here")]
impl<T: Target> UringQueue<T> {
    /// Returns a queue into `target`, which is open as `file`.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub(in crate::backend) fn new(
        target: Arc<T>,
        file: BorrowedFd<'_>,
        options: RingOptions,
    ) -> io::Result<Self> {
        let limits = target.limits();
        let other = RingOptions {
            polled: false,
            ..options
        };
        let rings = Rings {
            data: Ring::new(file, options)?,
            other: options.polled.then(|| Ring::new(file, other)).transpose()?,
        };
        let ranges = || Vec::with_capacity(RANGES_MAX);
        Ok(Self {
            rings,
            requests: (0..QUEUE_SIZE_MAX).map(|_| None).collect(),
            in_flight: 0,
            buffers: Buffers::new()?,
            long: Long::new(),
            ranges: std::iter::repeat_with(ranges).take(RANGED_MAX).collect(),
            write_through: false,
            is_dry: false,
            registered: 0,
            copied: 0,
            limits: Limits {
                part_bytes_max: limits.part_bytes_max.max(limits.block_bytes as u64),
                ..limits
            },
            target,
        })
    }

    /// Returns a request to move `data`; `None` when there is no room now.
    fn request(&mut self, verb: Verb, range: SectorRange, data: Data<'_, '_>) -> Option<Request> {
        let pieces = Pieces::new(data, &mut self.long)?;
        let Limits {
            align_bytes,
            block_bytes,
            ..
        } = self.limits;
        let mut request = Request::new(verb, range.start_bytes(), range.bytes());
        if !pieces.are_aligned(align_bytes, block_bytes) {
            request.buffer = self.buffers.take();
            if request.buffer.is_none() {
                self.long.give_back(pieces);
                return None;
            }
            self.copied += 1;
        }
        request.pieces = Some(pieces);
        Some(request)
    }

    /// Returns a request for `ranges`, of which there are some; `None` when there is no room now.
    fn ranged(&mut self, verb: Verb, ranges: &[SectorRange]) -> Option<Request> {
        let (first, rest) = ranges.split_first()?;
        let mut request = Request::new(verb, first.start_bytes(), first.bytes());
        if !rest.is_empty() {
            let mut room = self.ranges.pop()?;
            room.extend(rest.iter().rev());
            request.ranges = Some(room);
        }
        Some(request)
    }

    fn accept(&mut self, token: Token, request: Option<Request>) -> Submission {
        let Some(request) = request else {
            return Submission::Busy;
        };
        match self.requests.get_mut(usize::from(token)) {
            Some(slot @ None) => *slot = Some(request),
            // A token is unique, and below the size of the largest queue.
            _ => {
                return Submission::Complete(Outcome::Failed {
                    errno: libc::EINVAL,
                });
            }
        }
        self.in_flight += 1;
        self.push(token);
        Submission::Pending
    }

    /// Pushes the next entry of the request that is `token`.
    fn push(&mut self, token: Token) {
        let Some(Some(request)) = self.requests.get_mut(usize::from(token)) else {
            return;
        };
        let ring = self.rings.of(request.verb);
        let part = request.part(ring, &self.buffers, &self.limits);
        let is_registered = matches!(
            part,
            Part::One {
                registered: Some(_),
                ..
            }
        );
        self.registered += u64::from(is_registered);
        let entry = self.target.entry(request, part, self.write_through);
        // SAFETY: see the module's header; vectors and buffers of a request stay where they are until `take`. There is
        // room: a ring has as many entries as there are tokens, and a request has one at a time.
        unsafe { ring.push(entry, u64::from(token)) };
    }

    /// Takes `result` for the request that is `token`. Returns its outcome if that was the last.
    fn take(&mut self, token: Token, result: i32) -> Option<Outcome> {
        let slot = self.requests.get_mut(usize::from(token))?;
        let request = slot.as_mut()?;
        let progress = match (self.target.ended(request, result), request.verb) {
            (Ended::Otherwise(progress), _) => progress,
            (Ended::Did(bytes), Verb::Read | Verb::Write) => request.moved(bytes, &self.buffers),
            (Ended::Did(_), Verb::Flush) => Progress::Done,
            (Ended::Did(bytes), _) => request.did(bytes),
        };
        let outcome = match progress {
            Progress::More => {
                self.push(token);
                return None;
            }
            // Zeros have no other way to be durable.
            Progress::Done
                if self.write_through && matches!(request.verb, Verb::WriteZeroes { .. }) =>
            {
                request.verb = Verb::Flush;
                self.push(token);
                return None;
            }
            Progress::Done => Outcome::Done,
            Progress::Unsupported => Outcome::Unsupported,
            Progress::Failed(errno) => Outcome::Failed { errno },
        };
        self.forget(token);
        Some(outcome)
    }

    /// Gives back all that the request which was `token` had.
    fn forget(&mut self, token: Token) {
        let slot = self.requests.get_mut(usize::from(token));
        let Some(request) = slot.and_then(Option::take) else {
            return;
        };
        self.in_flight -= 1;
        if let Some(pieces) = request.pieces {
            self.long.give_back(pieces);
        }
        if let Some(buffer) = request.buffer {
            self.buffers.give_back(buffer);
        }
        if let Some(mut ranges) = request.ranges {
            ranges.clear();
            self.ranges.push(ranges);
        }
    }
}

impl<T: Target> Rings<T> {
    fn of(&mut self, verb: Verb) -> &mut Ring<T::Submission, T::Completion> {
        match (&mut self.other, verb) {
            (_, Verb::Read | Verb::Write) | (None, _) => &mut self.data,
            (Some(other), _) => other,
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Ring<T::Submission, T::Completion>> {
        std::iter::once(&mut self.data).chain(&mut self.other)
    }

    fn next(&mut self) -> Option<(u64, i32)> {
        self.all().find_map(Ring::next)
    }
}

impl<T: Target> BackendQueue for UringQueue<T> {
    fn set_memory(&mut self, memory: &RegionTable) {
        for ring in self.rings.all() {
            // SAFETY: the worker tells of other memory before this goes away, with nothing pending.
            unsafe { ring.register(memory) };
        }
    }

    fn set_write_through(&mut self, write_through: bool) {
        self.write_through = write_through;
    }

    #[inline]
    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        let request = match operation {
            Operation::Read { range, .. } | Operation::Write { range, .. } if range.count == 0 => {
                return Submission::Complete(Outcome::Done);
            }
            Operation::Read { range, into } => self.request(Verb::Read, range, into),
            Operation::Write { range, from } => self.request(Verb::Write, range, from),
            Operation::Flush => Some(Request::new(Verb::Flush, 0, 0)),
            Operation::Discard([]) | Operation::WriteZeroes { ranges: [], .. } => {
                return Submission::Complete(Outcome::Done);
            }
            Operation::Discard(ranges) => self.ranged(Verb::Discard, ranges),
            Operation::SecureErase(ranges) => {
                return Submission::Complete(self.target.secure_erase(ranges));
            }
            Operation::WriteZeroes { ranges, unmap } => {
                self.ranged(Verb::WriteZeroes { unmap }, ranges)
            }
        };
        self.accept(token, request)
    }

    #[inline]
    fn commit(&mut self) {
        let entered = self
            .rings
            .all()
            .filter_map(|ring| ring.submit().then_some(()));
        self.is_dry &= entered.count() == 0;
    }

    #[inline]
    fn complete(&mut self) -> Option<(Token, Outcome)> {
        loop {
            let Some((token, result)) = self.rings.next() else {
                // The commit of this pass may enter the kernel as well: this looks there in the next one.
                if !std::mem::replace(&mut self.is_dry, true) {
                    return None;
                }
                self.is_dry = false;
                self.rings.all().for_each(Ring::drive);
                continue;
            };
            self.is_dry = false;
            let token = token as Token;
            if let Some(outcome) = self.take(token, result) {
                return Some((token, outcome));
            }
        }
    }

    #[inline]
    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn counts(&self) -> BackendCounts {
        let other = self.rings.other.as_ref().map_or(0, Ring::system_calls);
        BackendCounts {
            system_calls: self.rings.data.system_calls() + other,
            registered: self.registered,
            copied: self.copied,
        }
    }

    /// Waits for whatever the kernel cannot cancel: a device may still write to the memory. Nothing but the kernel's own
    /// time for the device bounds that.
    fn abandon(&mut self) {
        self.rings.all().for_each(Ring::cancel);
        for token in 0..QUEUE_SIZE_MAX {
            self.forget(token);
        }
    }

    /// A device that is polled signals nothing.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.rings.other {
            None => self.rings.data.signal(),
            Some(_) => None,
        }
    }
}

impl<T: Target> Drop for UringQueue<T> {
    fn drop(&mut self) {
        self.abandon();
    }
}
