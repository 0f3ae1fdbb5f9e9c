//! Interrupt moderation: when to raise an interrupt that the driver asked for. Pure: the time comes in
//! from outside.
//!
//! Raising one a request makes the driver's CPU work on interrupts instead of submitting; raising none
//! until a timer ends makes a driver wait that has nothing else to do. What tells the two apart is how
//! many requests the driver keeps outstanding: once most of them are done, it is about to run out of work
//! and should hear of it.
//!
//! That depth is found by trying: an interrupt is held for a few more completions than ever before, and
//! again for more, until the driver falls silent. Then it has nothing left to submit and waits: it is
//! interrupted at once, and what it had is its depth. Otherwise it is interrupted when three quarters of
//! its depth are done, and submits the rest while the interrupt is on its way. A depth that was confirmed is
//! tried ever more rarely, so that a driver with one request outstanding is as good as never kept waiting. A
//! silence before the depth is reached may be an accident, so the depth shrinks by a quarter only.

use std::time::Duration;

use quanta::Instant;

use crate::ring::Backlog;

/// Completions after which an interrupt is raised whatever the driver's depth: bounds how much the
/// driver has to take back at once.
const COMPLETIONS_MAX: u16 = 256;

/// Intervals between two submissions after which a driver is taken for waiting that has nothing else to do. What
/// it took back the last time gives it something, for half an interval each.
const SILENT_INTERVALS: u32 = 4;

/// Interrupts between two tries to go beyond a depth: at first, and after it was confirmed again and again.
const PATIENCE_MIN: u32 = 8;
const PATIENCE_MAX: u32 = 4096;

/// How long an interrupt is held that a driver which polls has probably not asked for.
const STALE_HOLD: Duration = Duration::from_millis(250);

/// Whether to raise the interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Now.
    Raise,
    /// More completions are on their way, or the time is not up.
    Hold,
}

/// Decides when to raise interrupts of one queue.
#[derive(Debug)]
pub struct Moderation {
    hold: Duration,
    /// The most that the driver is known to keep outstanding, or that can be waited for.
    depth: u16,
    /// An interrupt is held for more than that.
    trying: bool,
    /// Interrupts since the last try, and how many there are before the next.
    since_try: u32,
    patience: u32,
    /// The interrupt that is held.
    held: Option<Held>,
    /// Completions that the last interrupt told of.
    told: u16,
    /// The usual time from one submission to the next, once it is known.
    interval: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    since: Instant,
    /// When the last completion came.
    last: Instant,
    completed: u16,
    /// The driver may not have asked for it.
    stale: bool,
}

impl Moderation {
    /// Returns a policy that holds an interrupt for at most `hold`; zero never holds one.
    pub fn new(hold: Duration) -> Self {
        Self {
            hold,
            depth: 1,
            trying: false,
            since_try: 0,
            patience: PATIENCE_MIN,
            held: None,
            told: 0,
            interval: None,
        }
    }

    /// Returns whether an interrupt is held.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Returns how many requests the driver keeps outstanding, as far as is known.
    pub fn depth(&self) -> u16 {
        self.depth
    }

    /// Notes new completions that the driver wants an interrupt for. Returns whether to raise it.
    #[inline]
    pub fn completed(&mut self, backlog: Backlog, now: impl FnOnce() -> Instant) -> Interrupt {
        let completed = backlog.completed;
        if backlog.stale {
            return self.hold_stale(completed, now());
        }
        if self.held.is_some_and(|held| held.stale) {
            // This one it has asked for.
            self.held = None;
        }
        if self.hold.is_zero() || completed >= self.enough() {
            self.told = completed;
            return Interrupt::Raise;
        }
        self.hold_on(completed, now())
    }

    fn hold_stale(&mut self, completed: u16, now: Instant) -> Interrupt {
        let held = self.held.get_or_insert(Held {
            since: now,
            last: now,
            completed,
            stale: true,
        });
        if now.saturating_duration_since(held.since) >= STALE_HOLD {
            Interrupt::Raise
        } else {
            Interrupt::Hold
        }
    }

    /// Returns the completions that an interrupt is held for.
    #[inline]
    fn enough(&self) -> u16 {
        let enough = if self.trying {
            self.depth + 1 + self.depth / 8
        } else {
            self.depth - self.depth / 4
        };
        enough.min(COMPLETIONS_MAX)
    }

    fn hold_on(&mut self, completed: u16, now: Instant) -> Interrupt {
        let held = self.held.get_or_insert(Held {
            since: now,
            last: now,
            completed,
            stale: false,
        });
        let more = u32::from(completed.wrapping_sub(held.completed));
        if more > 0 {
            let interval = now.saturating_duration_since(held.last) / more;
            // A mean that forgets.
            let before = self.interval.unwrap_or(interval);
            self.interval = Some((before * 7 + interval) / 8);
            (held.last, held.completed) = (now, completed);
        }
        if now.saturating_duration_since(held.since) >= self.hold {
            self.expired(completed)
        } else {
            Interrupt::Hold
        }
    }

    /// Returns whether an interrupt that is held has been held long enough, when nothing new came.
    #[inline]
    pub fn waited(&mut self, now: impl FnOnce() -> Instant) -> Interrupt {
        let Some(held) = self.held else {
            return Interrupt::Hold;
        };
        let now = now();
        if held.stale {
            self.hold_stale(held.completed, now)
        } else if now.saturating_duration_since(held.last) >= self.silence() {
            self.silent(held.completed)
        } else if now.saturating_duration_since(held.since) >= self.hold {
            self.expired(held.completed)
        } else {
            Interrupt::Hold
        }
    }

    /// How long a driver is silent that has nothing left to submit.
    fn silence(&self) -> Duration {
        let intervals = SILENT_INTERVALS + u32::from(self.told / 2);
        match self.interval {
            Some(interval) => (interval * intervals).min(self.hold / 2),
            None => self.hold / 2,
        }
    }

    /// Notes that the driver is interrupted.
    #[inline]
    pub fn raised(&mut self) {
        self.held = None;
        if self.hold.is_zero() {
            return;
        }
        if self.trying {
            // It was worth it: go on.
            self.depth = self.enough();
            self.patience = PATIENCE_MIN;
            self.trying = self.depth < COMPLETIONS_MAX;
        } else {
            self.since_try += 1;
            self.trying = self.since_try >= self.patience && self.depth < COMPLETIONS_MAX;
        }
    }

    /// Forgets an interrupt that was held: the driver does not want it any more.
    #[inline]
    pub fn settle(&mut self) {
        self.held = None;
    }

    /// The driver fell silent with `completed` done.
    #[cold]
    fn silent(&mut self, completed: u16) -> Interrupt {
        let shrunk = self.depth - self.depth.div_ceil(4);
        self.found(completed.max(shrunk), completed)
    }

    /// The time is up with `completed` done: there is none to wait for more.
    #[cold]
    fn expired(&mut self, completed: u16) -> Interrupt {
        self.found(completed, completed)
    }

    fn found(&mut self, depth: u16, completed: u16) -> Interrupt {
        if completed >= self.depth {
            // Tried in vain.
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        self.depth = depth.max(1);
        self.told = completed;
        (self.trying, self.since_try) = (false, 0);
        Interrupt::Raise
    }
}

#[cfg(test)]
mod tests;
