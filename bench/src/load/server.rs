//! A device on paper, in a time of its own: requests are served one after the other, and it may stall.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use quanta::{Clock, Mock};

use super::{Completed, LoadError, Measured, Requests, Window};

/// What a look at the ring takes.
const LOOK_NS: u64 = 50;

pub(super) struct Server {
    clock: Clock,
    time: Arc<Mock>,
    room: usize,
    service_ns: u64,
    stall: (u64, u64),
    /// Started and done, in the order of submission.
    queue: VecDeque<(u64, u64)>,
    free_at: u64,
    in_flight_max: usize,
    served: u64,
    stops: Cell<bool>,
}

impl Server {
    /// Returns one with room for `room` requests, that takes `service_ns` for each.
    pub(super) fn new(room: usize, service_ns: u64) -> (Self, Clock) {
        let (clock, time) = Clock::mock();
        let server = Self {
            clock: clock.clone(),
            time,
            room,
            service_ns,
            stall: (0, 0),
            queue: VecDeque::new(),
            free_at: 0,
            in_flight_max: 0,
            served: 0,
            stops: Cell::new(false),
        };
        (server, clock)
    }

    /// Has nothing be served from `from` on for `ns`.
    pub(super) fn stall(&mut self, from: u64, ns: u64) {
        self.stall = (from, from.saturating_add(ns));
    }

    /// Has the user want an end.
    pub(super) fn stop(&self) {
        self.stops.set(true);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn served(&self) -> u64 {
        self.served
    }

    pub(super) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// Runs `load` without ramp time.
    pub(super) fn run(
        &mut self,
        runtime_ns: u64,
        load: impl FnOnce(&mut Self, Window<'_>) -> Result<Measured, LoadError>,
    ) -> Result<Measured, LoadError> {
        let stops = self.stops.get();
        let mut marks = 0;
        let ended = load(
            self,
            Window {
                ramp_ns: 0,
                runtime_ns,
                mark: &mut || marks += 1,
                stop: &|| stops,
            },
        );
        assert!(ended.is_err() || marks == 2, "{marks} marks");
        ended
    }
}

impl Requests for Server {
    fn submit(&mut self, started: u64) -> bool {
        if self.queue.len() == self.room {
            return false;
        }
        let mut begun = self.free_at.max(self.clock.raw());
        if (self.stall.0..self.stall.1).contains(&begun) {
            begun = self.stall.1;
        }
        self.free_at = begun.saturating_add(self.service_ns);
        self.queue.push_back((started, self.free_at));
        self.in_flight_max = self.in_flight_max.max(self.queue.len());
        true
    }

    fn publish(&mut self) {}

    fn reap(&mut self, completed: &mut Completed) {
        self.time.increment(LOOK_NS);
        let now = self.clock.raw();
        while let Some(&(started, done)) = self.queue.front()
            && done <= now
        {
            completed.add(started, false);
            self.served += 1;
            self.queue.pop_front();
        }
    }
}
