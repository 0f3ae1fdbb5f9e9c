//! Requests that a backend has not completed yet.

use quanta::Instant;

use crate::backend::Token;
use crate::mem::Iova;
use crate::ring::Head;

/// What is needed to answer a request later.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) head: Head,
    /// Where its status byte is.
    pub(super) status_at: Iova,
    pub(super) read_bytes: u32,
    pub(super) write_bytes: u32,
    /// Whether it fills all writable bytes if it succeeds.
    pub(super) whole: bool,
    /// When it was taken, if it is timed.
    pub(super) taken_at: Option<Instant>,
}

/// A slot for each head that can be in flight.
#[derive(Debug)]
pub(super) struct InFlightTable {
    slots: Box<[Option<InFlight>]>,
    /// At which beat each was taken.
    taken_at_beat: Box<[u32]>,
    beat: u32,
    count: usize,
}

impl InFlightTable {
    /// Returns a table for a queue of `size` entries.
    pub(super) fn new(size: u16) -> Self {
        Self {
            slots: (0..size).map(|_| None).collect(),
            taken_at_beat: vec![0; usize::from(size)].into(),
            beat: 0,
            count: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn beat(&mut self) {
        self.beat = self.beat.wrapping_add(1);
    }

    /// Returns how many beats there were since the oldest request was taken.
    pub(super) fn oldest_beats(&self) -> u32 {
        let taken = self.slots.iter().zip(&self.taken_at_beat);
        let ages = taken
            .filter(|(slot, _)| slot.is_some())
            .map(|(_, taken)| self.beat.wrapping_sub(*taken));
        ages.max().unwrap_or(0)
    }

    /// Returns whether the chain at `head` is in flight.
    #[inline]
    pub(super) fn contains(&self, head: u16) -> bool {
        self.count > 0
            && self
                .slots
                .get(usize::from(head))
                .is_some_and(Option::is_some)
    }

    /// Keeps `request`, whose head is not in flight.
    #[inline]
    pub(super) fn insert(&mut self, request: InFlight) {
        let index = usize::from(request.head.id());
        match self.slots.get_mut(index) {
            Some(slot @ None) => {
                *slot = Some(request);
                self.taken_at_beat[index] = self.beat;
                self.count += 1;
            }
            // A head is below the size of its queue, and `contains` was asked before.
            _ => request.head.abandon(),
        }
    }

    /// Takes the request that `token` names.
    #[inline]
    pub(super) fn remove(&mut self, token: Token) -> Option<InFlight> {
        let request = self.slots.get_mut(usize::from(token))?.take()?;
        self.count -= 1;
        Some(request)
    }
}

impl Drop for InFlightTable {
    /// Gives every request up: the queue is gone.
    fn drop(&mut self) {
        for request in self.slots.iter_mut().filter_map(Option::take) {
            request.head.abandon();
        }
    }
}
