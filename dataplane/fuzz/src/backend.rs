//! A backend that distrusts its worker: it looks at every operation that it is given, keeps some of them
//! for later, and writes into the driver's memory while nobody expects it.
//!
//! # Safety
//!
//! Addresses of pending operations are used until their token is returned or abandoned, as the contract
//! of a backend allows.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::Arc;

use pollux_dataplane::backend::{BackendQueue, Outcome, Submission, Token};
use pollux_dataplane::blk::{Geometry, Operation, SectorRange};
use pollux_dataplane::mem::{Access, Direction, Iova, RegionTable, Segment};

use crate::flipper::scribble;
use crate::random::Random;

/// Memory of an operation that was accepted.
type Kept = Vec<(usize, usize)>;

/// A region in this process.
struct Window {
    start: usize,
    end: usize,
    access: Access,
}

#[derive(Debug)]
struct Pending {
    token: Token,
    /// What a read is filled with.
    fill: u8,
    direction: Option<Direction>,
    memory: Kept,
}

/// When operations end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completions {
    AtOnce,
    Later,
    Either,
}

/// The backend's queue.
pub(crate) struct FuzzQueue {
    geometry: Geometry,
    table: Arc<RegionTable>,
    windows: Vec<Window>,
    depth: usize,
    completions: Completions,
    /// Operations may fail.
    fails: bool,
    pending: Vec<Pending>,
    finished: VecDeque<(Token, Outcome)>,
    /// Everything is finished when it is asked for.
    pub(crate) is_patient: bool,
    /// The driver keeps to the rules, and each write has one byte all over.
    pub(crate) is_honest: bool,
    mischief: u8,
    /// What mischief reaches.
    rings: (Iova, u64),
    random: Random,
    accepted: u8,
}

impl FuzzQueue {
    /// Returns a queue that takes `depth` operations at a time.
    pub(crate) fn new(
        geometry: &Geometry,
        depth: usize,
        completions: u8,
        mischief: u8,
        rings: (Iova, u64),
        random: Random,
    ) -> Self {
        let kinds = [Completions::AtOnce, Completions::Later, Completions::Either];
        Self {
            geometry: geometry.clone(),
            table: Arc::new(RegionTable::default()),
            windows: Vec::new(),
            depth,
            completions: kinds[usize::from(completions & 0x7f) % kinds.len()],
            fails: completions & 0x80 != 0,
            pending: Vec::new(),
            finished: VecDeque::new(),
            is_patient: false,
            is_honest: mischief == 0,
            mischief,
            rings,
            random,
            accepted: 0,
        }
    }

    /// Returns whether an operation never fails by itself.
    pub(crate) fn is_reliable(&self) -> bool {
        !self.fails
    }

    /// Expects operations on the memory of `table` from now on.
    pub(crate) fn serve(&mut self, table: &Arc<RegionTable>) {
        assert!(self.pending.is_empty() && self.finished.is_empty());
        let windows = table.regions().iter().map(|region| {
            let access = region.mapping.access();
            let direction = match access {
                Access::WriteOnly => Direction::Writable,
                Access::ReadOnly | Access::ReadWrite => Direction::Readable,
            };
            let bytes = region.last.0 - region.first.0 + 1;
            let memory = table.segment(region.first, bytes, direction);
            let start = memory.expect("a whole region").as_ptr() as usize;
            let end = start + bytes as usize;
            Window { start, end, access }
        });
        self.windows = windows.collect();
        self.table = Arc::clone(table);
    }

    /// Finishes the pending operation at `place`, wherever that is.
    pub(crate) fn finish(&mut self, place: u8, outcome: u8) {
        if self.pending.is_empty() {
            return;
        }
        let place = usize::from(place) % self.pending.len();
        let pending = self.pending.swap_remove(place);
        let outcome = match outcome % 8 {
            0 if self.fails => Outcome::Failed { errno: 5 },
            1 if self.fails => Outcome::Unsupported,
            _ => Outcome::Done,
        };
        self.carry_out(&pending);
        self.finished.push_back((pending.token, outcome));
    }

    /// Finishes everything.
    pub(crate) fn finish_all(&mut self) {
        while !self.pending.is_empty() {
            let place = self.random.next() as u8;
            self.finish(place, place >> 3);
        }
    }

    /// Returns the addresses of `data`, each of which lies in one region that allows `direction`.
    fn keep(&self, data: &[Segment<'_>], range: SectorRange, direction: Direction) -> Kept {
        let checked = self.geometry.range(range.first, range.count);
        assert_eq!(checked, Some(range), "off the disk");
        let mut left = range.bytes();
        let mut kept = Kept::new();
        for segment in data {
            let (start, bytes) = (segment.as_ptr() as usize, segment.len());
            let inside = |window: &&Window| window.start <= start && start + bytes <= window.end;
            let window = self.windows.iter().find(inside);
            let access = window.expect("outside of the driver's memory").access;
            let allowed = match direction {
                Direction::Readable => access != Access::WriteOnly,
                Direction::Writable => access != Access::ReadOnly,
            };
            assert!(allowed && bytes > 0);
            left = left
                .checked_sub(bytes as u64)
                .expect("more data than asked");
            kept.push((start, bytes));
        }
        assert_eq!(left, 0, "less data than asked");
        kept
    }

    fn carry_out(&self, pending: &Pending) {
        let mut first = None;
        for &(start, bytes) in &pending.memory {
            let start = NonNull::new(start as *mut u8).expect("an address");
            // SAFETY: see the module's header.
            let memory = unsafe { Segment::new(start, bytes) };
            let mut copy = vec![pending.fill; bytes];
            if pending.direction == Some(Direction::Writable) {
                memory.copy_from(&copy);
                continue;
            }
            memory.copy_to(&mut copy);
            let expected = *first.get_or_insert(copy[0]);
            let is_right = expected != 0 && copy.iter().all(|&byte| byte == expected);
            assert!(is_right || !self.is_honest, "not what the driver wrote");
        }
    }

    /// Writes into the rings, sometimes.
    fn interfere(&mut self) {
        if self.random.below(256) < usize::from(self.mischief) {
            let (first, bytes) = self.rings;
            let rings = self.table.segment(first, bytes, Direction::Writable);
            scribble(rings.expect("the rings"), &mut self.random);
        }
    }
}

impl BackendQueue for FuzzQueue {
    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        self.interfere();
        let is_pending = self.pending.iter().any(|other| other.token == token);
        let is_finished = self.finished.iter().any(|(other, _)| *other == token);
        assert!(!is_pending && !is_finished, "token {token} twice");
        if self.in_flight() >= self.depth {
            return Submission::Busy;
        }
        let (direction, memory) = match operation {
            Operation::Read { range, into } => {
                let direction = Direction::Writable;
                (Some(direction), self.keep(into, range, direction))
            }
            Operation::Write { range, from } => {
                assert!(!self.geometry.read_only);
                let direction = Direction::Readable;
                (Some(direction), self.keep(from, range, direction))
            }
            Operation::Flush => (None, Kept::new()),
            Operation::Discard(ranges)
            | Operation::SecureErase(ranges)
            | Operation::WriteZeroes { ranges, .. } => {
                for &range in ranges {
                    let checked = self.geometry.range(range.first, range.count);
                    assert_eq!(checked, Some(range), "off the disk");
                }
                (None, Kept::new())
            }
        };
        self.accepted = self.accepted.wrapping_add(1);
        let pending = Pending {
            token,
            fill: self.accepted | 1,
            direction,
            memory,
        };
        let at_once = match self.completions {
            Completions::AtOnce => true,
            Completions::Later => false,
            Completions::Either => self.random.below(2) == 0,
        };
        if !at_once {
            self.pending.push(pending);
            return Submission::Pending;
        }
        self.carry_out(&pending);
        if self.fails && self.random.below(8) == 0 {
            return Submission::Complete(Outcome::Failed { errno: 5 });
        }
        Submission::Complete(Outcome::Done)
    }

    fn commit(&mut self) {
        self.interfere();
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        self.interfere();
        if self.is_patient && self.finished.is_empty() {
            self.finish(0, 2);
        }
        self.finished.pop_front()
    }

    fn in_flight(&self) -> usize {
        self.pending.len() + self.finished.len()
    }

    fn abandon(&mut self) {
        self.pending.clear();
        self.finished.clear();
    }
}
