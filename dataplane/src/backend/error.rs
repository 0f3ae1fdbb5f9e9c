//! A wrapper that fails requests of any backend, as a disk with bad sectors or a flaky cable does.
//!
//! A request matches the rule if its operation is one of the rule's and any byte of it is in the rule's range; a flush
//! has no bytes, so with a range it never matches. What matches fails with the rule's probability, each request drawn
//! anew, and never reaches what is wrapped. A sticky rule holds for all that matches, on every queue, from its first
//! failure on. A rule stays in force, as one of QEMU's blkdebug without `once`.

use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitflags::bitflags;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::chance::Chance;
use super::{Backend, BackendCounts, BackendQueue, DiskError, Outcome, Submission, Token};
use crate::blk::{Geometry, Operation, SectorRange};
use crate::limits::QUEUE_SIZE_MAX;
use crate::mem::RegionTable;

bitflags! {
    /// Kinds of operations.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OperationKinds: u8 {
        /// Reads.
        const READ = 1 << 0;
        /// Writes.
        const WRITE = 1 << 1;
        /// Flushes.
        const FLUSH = 1 << 2;
        /// Discards.
        const DISCARD = 1 << 3;
        /// Zeroes that are written.
        const WRITE_ZEROES = 1 << 4;
        /// Secure erases.
        const SECURE_ERASE = 1 << 5;
    }
}

/// Which requests fail, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureRule {
    /// What matches fails with this probability, from 0 to 1.
    pub probability: f64,
    /// These operations match,
    pub kinds: OperationKinds,
    /// where they touch these bytes of the disk; anywhere, and flushes too, without.
    pub bytes: Option<Range<u64>>,
    /// How they fail.
    pub outcome: Outcome,
    /// Everything that matches fails from the first failure on.
    pub sticky: bool,
    /// Of the draws: the same requests, the same failures again.
    pub seed: Option<u64>,
}

/// A backend of which requests fail.
#[derive(Debug)]
pub struct Failing<B> {
    inner: B,
    shared: Arc<Shared>,
    chance: Chance,
}

/// A queue of a backend of which requests fail.
#[derive(Debug)]
pub struct FailingQueue<Q> {
    inner: Q,
    shared: Arc<Shared>,
    random: SmallRng,
    /// Tokens of operations that were drawn for and handed on to a busy backend: they come again.
    spared: Vec<bool>,
}

#[derive(Debug)]
struct Shared {
    rule: FailureRule,
    stuck: AtomicBool,
}

impl FailureRule {
    fn matches(&self, operation: &Operation<'_, '_>) -> bool {
        let (kind, ranges) = match operation {
            Operation::Read { range, .. } => (OperationKinds::READ, std::slice::from_ref(range)),
            Operation::Write { range, .. } => (OperationKinds::WRITE, std::slice::from_ref(range)),
            Operation::Flush => (OperationKinds::FLUSH, &[][..]),
            Operation::Discard(ranges) => (OperationKinds::DISCARD, *ranges),
            Operation::WriteZeroes { ranges, .. } => (OperationKinds::WRITE_ZEROES, *ranges),
            Operation::SecureErase(ranges) => (OperationKinds::SECURE_ERASE, *ranges),
        };
        let touches = |bytes: &Range<u64>, range: &SectorRange| {
            let start = range.start_bytes();
            range.count > 0 && start < bytes.end && bytes.start < start + range.bytes()
        };
        let in_range = |bytes| ranges.iter().any(|range| touches(bytes, range));
        self.kinds.contains(kind) && self.bytes.as_ref().is_none_or(in_range)
    }
}

impl<B: Backend> Failing<B> {
    /// Returns `inner`, failing by `rule`.
    pub fn new(inner: B, rule: FailureRule) -> Self {
        let chance = Chance::new(rule.seed);
        let shared = Shared {
            rule,
            stuck: AtomicBool::new(false),
        };
        Self {
            inner,
            shared: Arc::new(shared),
            chance,
        }
    }

    /// Returns what is wrapped.
    pub fn inner(&self) -> &B {
        &self.inner
    }
}

impl<B: Backend> Backend for Failing<B> {
    type Queue = FailingQueue<B::Queue>;

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
        Ok(FailingQueue {
            inner: self.inner.open_queue()?,
            shared: Arc::clone(&self.shared),
            random: self.chance.open_queue(),
            spared: vec![false; usize::from(QUEUE_SIZE_MAX)],
        })
    }
}

impl<Q> FailingQueue<Q> {
    /// Returns whether what matches fails.
    fn draw(&mut self) -> bool {
        let Shared { rule, stuck } = &*self.shared;
        let is_stuck = rule.sticky && stuck.load(Ordering::Relaxed);
        let fails = is_stuck || self.random.random_bool(rule.probability.clamp(0.0, 1.0));
        if fails && rule.sticky {
            stuck.store(true, Ordering::Relaxed);
        }
        fails
    }

    /// Returns whether the operation `token` was spared before, and has `spared` say so from now on.
    fn set_spared(&mut self, token: Token, spared: bool) -> bool {
        let place = self.spared.get_mut(usize::from(token));
        place.is_some_and(|place| std::mem::replace(place, spared))
    }
}

impl<Q: BackendQueue> BackendQueue for FailingQueue<Q> {
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
        if !self.shared.rule.matches(&operation) {
            return self.inner.submit(token, operation);
        }
        let was_spared = self.set_spared(token, false);
        if !was_spared && self.draw() {
            return Submission::Complete(self.shared.rule.outcome);
        }
        let submission = self.inner.submit(token, operation);
        if submission == Submission::Busy {
            self.set_spared(token, true);
        }
        submission
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        self.inner.complete()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn abort(&mut self) -> Duration {
        self.inner.abort()
    }

    fn abandon(&mut self) {
        self.spared.fill(false);
        self.inner.abandon();
    }

    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.completion_fd()
    }
}

#[cfg(test)]
mod tests;
