//! A backend that completes later, when the test says so: what asynchronous storage looks like to a
//! worker. It keeps raw addresses of the driver's memory, as a kernel or a device would.

#![allow(unsafe_code, dead_code, unreachable_pub)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pollux_dataplane::backend::{Backend, BackendQueue, DiskError, Outcome, Submission, Token};
use pollux_dataplane::blk::{Geometry, Operation, SectorRange};
use pollux_dataplane::mem::Segment;

use crate::common::{DISK_BYTES, PATIENCE, options};

/// How long aborted operations may take.
pub const ABORT_TIME: Duration = Duration::from_millis(200);

/// An operation that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    Read(SectorRange, Vec<(usize, usize)>),
    Write(SectorRange, Vec<(usize, usize)>),
    Other,
}

impl Kept {
    /// Returns the first sector; 0 when there is none.
    pub fn sector(&self) -> u64 {
        match self {
            Self::Read(range, _) | Self::Write(range, _) => range.first,
            Self::Other => 0,
        }
    }
}

#[derive(Debug, Default)]
pub struct State {
    pub disk: Vec<u8>,
    /// Operations that the backend takes before it is busy.
    pub depth: usize,
    pub pending: Vec<(Token, Kept)>,
    /// Finished and not yet taken by the worker.
    finished: VecDeque<(Token, Outcome)>,
    /// First sectors of everything accepted, in order.
    pub accepted: Vec<u64>,
    pub refused: u64,
    pub abandons: u64,
    /// How the first operations that are pending end when they are aborted.
    pub aborted: Vec<Outcome>,
    /// Accepted since the last commit.
    uncommitted: usize,
}

/// The disk, and the test's hand on it.
#[derive(Clone, Debug)]
pub struct Deferred {
    geometry: Geometry,
    state: Arc<Mutex<State>>,
    /// Counts what is finished; without it the worker has to poll.
    signal: Option<Arc<EventFd>>,
}

pub struct DeferredQueue(Deferred);

impl Deferred {
    /// Returns a disk of zeros that takes `depth` operations at a time.
    pub fn new(depth: usize, has_fd: bool) -> Self {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_SEMAPHORE;
        let state = State {
            disk: vec![0; DISK_BYTES as usize],
            depth,
            ..State::default()
        };
        Self {
            geometry: options().geometry().unwrap(),
            state: Arc::new(Mutex::new(state)),
            signal: has_fd.then(|| Arc::new(EventFd::from_flags(flags).unwrap())),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn pending(&self) -> usize {
        self.state().pending.len()
    }

    /// Waits until the backend has `count` operations pending.
    pub fn await_pending(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.pending() != count {
            let pending = self.pending();
            assert!(Instant::now() < deadline, "{pending} pending, not {count}");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Finishes the pending operation at `place`, in the order of submission.
    pub fn finish(&self, place: usize) {
        self.finish_as(place, Outcome::Done);
    }

    pub fn finish_as(&self, place: usize, outcome: Outcome) {
        let mut state = self.state();
        let (token, kept) = state.pending.remove(place);
        if outcome == Outcome::Done {
            carry_out(&mut state.disk, &kept);
        }
        state.finished.push_back((token, outcome));
        if let Some(signal) = &self.signal {
            signal.write(1).unwrap();
        }
    }

    /// Finishes everything pending, in an order that `seed` picks.
    pub fn finish_all(&self, mut seed: u64) {
        while self.pending() > 0 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            self.finish((seed >> 33) as usize % self.pending());
        }
    }
}

impl Backend for Deferred {
    type Queue = DeferredQueue;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> io::Result<DeferredQueue> {
        Ok(DeferredQueue(self.clone()))
    }

    fn resized(&self, size_bytes: u64) -> Result<Geometry, DiskError> {
        Ok(Geometry {
            capacity_sectors: size_bytes / 512,
            ..self.geometry.clone()
        })
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        self.state().disk.resize(geometry.size_bytes() as usize, 0);
        self.geometry = geometry;
        Ok(())
    }
}

impl BackendQueue for DeferredQueue {
    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        let mut state = self.0.state();
        if state.pending.len() + state.finished.len() >= state.depth {
            state.refused += 1;
            return Submission::Busy;
        }
        let kept = match operation {
            Operation::Read { range, into } => Kept::Read(range, addresses(into)),
            Operation::Write { range, from } => Kept::Write(range, addresses(from)),
            _ => Kept::Other,
        };
        let in_use = state.pending.iter().any(|(other, _)| *other == token);
        assert!(!in_use, "token {token} names two operations");
        state.accepted.push(kept.sector());
        state.pending.push((token, kept));
        state.uncommitted += 1;
        Submission::Pending
    }

    fn commit(&mut self) {
        self.0.state().uncommitted = 0;
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        let mut state = self.0.state();
        assert_eq!(state.uncommitted, 0, "waited for what was not committed");
        let finished = state.finished.pop_front()?;
        if let Some(signal) = &self.0.signal {
            signal.read().unwrap();
        }
        Some(finished)
    }

    fn in_flight(&self) -> usize {
        let state = self.0.state();
        state.pending.len() + state.finished.len()
    }

    fn abort(&mut self) -> Duration {
        let aborted = std::mem::take(&mut self.0.state().aborted);
        for outcome in &aborted {
            self.0.finish_as(0, *outcome);
        }
        ABORT_TIME * u32::from(!aborted.is_empty())
    }

    fn abandon(&mut self) {
        let mut state = self.0.state();
        state.abandons += 1;
        state.pending.clear();
        state.finished.clear();
        if let Some(signal) = &self.0.signal {
            while signal.read().is_ok() {}
        }
    }

    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.signal.as_ref().map(|signal| signal.as_fd())
    }
}

fn addresses(segments: &[Segment<'_>]) -> Vec<(usize, usize)> {
    let address = |segment: &Segment<'_>| {
        let start = segment.as_ptr() as usize;
        (start, segment.len())
    };
    segments.iter().map(address).collect()
}

fn carry_out(disk: &mut [u8], kept: &Kept) {
    let (range, segments) = match kept {
        Kept::Read(range, segments) | Kept::Write(range, segments) => (range, segments),
        Kept::Other => return,
    };
    let mut at = range.start_bytes() as usize;
    for &(start, length) in segments {
        let bytes = &mut disk[at..at + length];
        let start = NonNull::new(start as *mut u8).unwrap();
        // SAFETY: the worker keeps the memory of a pending operation mapped until its token is returned
        // or `abandon` has returned; `finish_as` holds the lock that both need.
        let memory = unsafe { Segment::new(start, length) };
        let copied = match kept {
            Kept::Read(..) => memory.copy_from(bytes),
            _ => memory.copy_to(bytes),
        };
        assert_eq!(copied, length);
        at += length;
    }
    assert_eq!(at as u64, range.start_bytes() + range.bytes());
}
