//! A wrapper that makes any backend slow: an operation is held for a while, then handed on.
//!
//! It is carried out when its time is over, not before: until then a write is in no storage, and a flush covers the
//! writes that are completed by the time it is carried out, as on any disk. Where times differ, operations overtake
//! each other.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use quanta::Clock;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand_distr::StandardNormal;

use super::chance::Chance;
use super::held::Held;
use super::{Backend, BackendCounts, BackendQueue, DiskError, Outcome, Submission, Token};
use crate::blk::{Geometry, Operation};
use crate::mem::RegionTable;

/// How long an operation is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// For this long; not at all for zero.
    For(Duration),
    /// For any time from `min` to `max`, each as likely.
    Uniform {
        /// The shortest.
        min: Duration,
        /// The longest; `min` if it is shorter.
        max: Duration,
    },
    /// Distributed normally; not at all where that is below zero.
    Normal {
        /// The middle.
        mean: Duration,
        /// The standard deviation.
        deviation: Duration,
    },
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
    /// Of the random ones: the same draws the same times again.
    pub seed: Option<u64>,
}

/// A backend made slow.
#[derive(Debug)]
pub struct Delay<B> {
    inner: B,
    latencies: Latencies,
    chance: Chance,
    clock: Clock,
}

/// A queue of a backend made slow.
#[derive(Debug)]
pub struct DelayQueue<Q> {
    inner: Q,
    latencies: Latencies,
    held: Held,
    /// Operations that never complete.
    lost: usize,
    random: SmallRng,
    clock: Clock,
}

impl Latency {
    /// Returns a time that an operation is held for; `None` for ever.
    fn draw(self, random: &mut SmallRng) -> Option<Duration> {
        match self {
            Self::For(time) => Some(time),
            Self::Uniform { min, max } => Some(random.random_range(min..=max.max(min))),
            Self::Normal { mean, deviation } => {
                let off: f64 = random.sample(StandardNormal);
                let ns = mean.as_nanos() as f64 + off * deviation.as_nanos() as f64;
                // A cast ends at zero.
                Some(Duration::from_nanos(ns as u64))
            }
            Self::Forever => None,
        }
    }
}

impl<B: Backend> Delay<B> {
    /// Returns `inner` with `latencies`.
    pub fn new(inner: B, latencies: Latencies) -> Self {
        Self {
            inner,
            latencies,
            chance: Chance::new(latencies.seed),
            clock: Clock::new(),
        }
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
            latencies: self.latencies,
            held: Held::new(),
            lost: 0,
            random: self.chance.open_queue(),
            clock: self.clock.clone(),
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
        // Before the draw: an operation that is put back would draw again.
        if !self.held.has_room(&operation) {
            return Submission::Busy;
        }
        let latency = match operation {
            Operation::Read { .. } => self.latencies.read,
            _ => self.latencies.write,
        };
        match latency.draw(&mut self.random) {
            Some(Duration::ZERO) => return self.inner.submit(token, operation),
            Some(time) => {
                self.held.hold(token, &operation, self.clock.now() + time);
            }
            None => self.lost += 1,
        }
        Submission::Pending
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        if let Some(done) = self.inner.complete() {
            return Some(done);
        }
        let now = self.clock.now();
        self.held
            .hand_on(&mut self.inner, |first| first.due() <= now)
    }

    fn in_flight(&self) -> usize {
        self.held.len() + self.lost + self.inner.in_flight()
    }

    fn abort(&mut self) -> Duration {
        self.inner.abort()
    }

    fn abandon(&mut self) {
        self.held.clear();
        self.lost = 0;
        self.inner.abandon();
    }

    /// Nothing signals that a time is over.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        let holds = !self.held.is_empty() || self.lost > 0;
        self.inner.completion_fd().filter(|_| !holds)
    }
}

#[cfg(test)]
mod tests;
