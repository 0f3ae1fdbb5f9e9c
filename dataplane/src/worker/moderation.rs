//! Interrupt moderation: when to raise an interrupt that the driver asked for. Pure: the time comes in
//! from outside.
//!
//! Raising one a request makes the driver's CPU work on interrupts instead of submitting; raising none
//! until a timer ends makes a driver wait that has nothing else to do. What tells the two apart is how
//! many requests the driver keeps outstanding: once most of them are done, it is about to run out of work
//! and should hear of it. That depth is learned from the ring itself, as the most that the driver has
//! submitted and not taken back before it takes something back: it goes on submitting while an
//! interrupt is on its way, so the depth seen grows with what is held, up to its true one.
//!
//! A driver that stops submitting waits for this interrupt: it is raised once nothing came for a few of the
//! driver's own intervals, and the depth is what it had then. One with a single request outstanding is
//! interrupted at once.

use std::time::Duration;

use quanta::Instant;

use crate::ring::Backlog;

/// Completions after which an interrupt is raised whatever the driver's depth: bounds how much the
/// driver has to take back at once.
const COMPLETIONS_MAX: u16 = 256;

/// Intervals between two submissions after which the driver is taken for waiting.
const SILENT_INTERVALS: u32 = 4;

/// How long an interrupt is held that a driver which polls has probably not asked for.
const STALE_HOLD: Duration = Duration::from_millis(20);

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
    /// The most requests that the driver keeps outstanding, as far as is known.
    depth: u16,
    /// The most seen since the last interrupt.
    peak: u16,
    /// The interrupt that is held.
    held: Option<Held>,
    /// When something was last submitted, and the usual time from one such moment to the next.
    last_submission: Option<Instant>,
    interval: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    since: Instant,
    completed: u16,
    hold: Duration,
}

impl Moderation {
    /// Returns a policy that holds an interrupt for at most `hold`; zero never holds one.
    pub fn new(hold: Duration) -> Self {
        Self {
            hold,
            depth: 1,
            peak: 1,
            held: None,
            last_submission: None,
            interval: Duration::ZERO,
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

    /// Notes that the driver has `outstanding` requests submitted and not taken back.
    #[inline]
    pub fn submitted(&mut self, outstanding: u16) {
        self.peak = self.peak.max(outstanding);
    }

    /// Notes new completions that the driver wants an interrupt for. Returns whether to raise it.
    #[inline]
    pub fn completed(&mut self, backlog: Backlog, now: impl FnOnce() -> Instant) -> Interrupt {
        self.submitted(backlog.outstanding);
        if backlog.stale {
            self.hold_for(STALE_HOLD, backlog.completed, now())
        } else if self.hold.is_zero() || backlog.completed >= self.enough() {
            Interrupt::Raise
        } else {
            self.hold_for(self.hold, backlog.completed, now())
        }
    }

    /// Three quarters of what the driver keeps outstanding: it submits the rest while the interrupt is on its
    /// way.
    #[inline]
    fn enough(&self) -> u16 {
        (self.depth - self.depth / 4).min(COMPLETIONS_MAX)
    }

    fn hold_for(&mut self, hold: Duration, completed: u16, now: Instant) -> Interrupt {
        if let Some(last) = self.last_submission.replace(now) {
            // A mean that forgets; a pause of the driver's is none of its intervals.
            let interval = now.saturating_duration_since(last).min(self.hold);
            self.interval = (self.interval * 7 + interval) / 8;
        }
        let held = self.held.get_or_insert(Held {
            since: now,
            completed,
            hold,
        });
        held.completed = completed;
        if now.saturating_duration_since(held.since) >= held.hold {
            self.expire(completed)
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
        let silent = (self.interval * SILENT_INTERVALS).max(held.hold / 16);
        let last = self.last_submission.unwrap_or(held.since);
        let waits = now.saturating_duration_since(last) >= silent;
        if (waits && held.hold <= self.hold)
            || now.saturating_duration_since(held.since) >= held.hold
        {
            self.expire(held.completed)
        } else {
            Interrupt::Hold
        }
    }

    /// Notes that the driver is interrupted.
    #[inline]
    pub fn raised(&mut self) {
        self.held = None;
        // What it is worth is known at once; that it is less, slowly: one interval may be a short one.
        self.depth = if self.peak > self.depth {
            self.peak
        } else {
            self.depth - (self.depth - self.peak).div_ceil(8)
        };
        self.peak = 1;
    }

    /// Forgets an interrupt that was held: the driver does not want it any more.
    #[inline]
    pub fn settle(&mut self) {
        self.held = None;
    }

    /// The driver stopped short of the depth that was learned: what it had is all that it keeps outstanding.
    #[cold]
    fn expire(&mut self, completed: u16) -> Interrupt {
        self.depth = completed.max(1);
        self.peak = self.depth;
        Interrupt::Raise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_micros(400);

    /// A driver over a device that completes each request as it comes. The driver keeps up to `depth`
    /// requests outstanding, submits one in each `submit`, and takes completions back `latency` after an
    /// interrupt was raised.
    struct Play {
        depth: u16,
        submit: Duration,
        latency: Duration,
        now: Instant,
        submitted: u16,
        taken: Option<Instant>,
        next: Instant,
        interrupts: u32,
        /// The longest that the driver had to wait with nothing on its way and no interrupt either.
        waited_longest: Duration,
    }

    impl Play {
        fn new(depth: u16, submit_us: u64, latency_us: u64) -> Self {
            let now = Instant::now();
            Self {
                depth,
                submit: Duration::from_micros(submit_us),
                latency: Duration::from_micros(latency_us),
                now,
                submitted: 0,
                taken: None,
                next: now,
                interrupts: 0,
                waited_longest: Duration::ZERO,
            }
        }

        /// Plays until `requests` more are submitted. Returns the interrupts that took.
        fn run(&mut self, policy: &mut Moderation, requests: u32) -> u32 {
            let before = self.interrupts;
            let mut left = requests;
            let mut starved = None;
            while left > 0 {
                self.now += Duration::from_micros(1);
                if self.taken.is_some_and(|at| self.now >= at) {
                    (self.taken, self.submitted) = (None, 0);
                }
                let mut decision = Interrupt::Hold;
                if self.submitted < self.depth && self.now >= self.next {
                    self.next = self.now + self.submit;
                    self.submitted += 1;
                    left -= 1;
                    let backlog = Backlog {
                        completed: self.submitted,
                        outstanding: self.submitted,
                        stale: false,
                    };
                    if self.taken.is_some() {
                        // The driver has not asked anew.
                        policy.submitted(self.submitted);
                    } else {
                        decision = policy.completed(backlog, || self.now);
                    }
                } else if policy.is_holding() {
                    decision = policy.waited(|| self.now);
                }
                if decision == Interrupt::Raise {
                    policy.raised();
                    self.interrupts += 1;
                    self.taken = Some(self.now + self.latency);
                }
                let is_starved = self.submitted == self.depth && self.taken.is_none();
                let since = *starved.get_or_insert(self.now);
                if is_starved {
                    let waited = self.now.saturating_duration_since(since);
                    self.waited_longest = self.waited_longest.max(waited);
                } else {
                    starved = None;
                }
            }
            self.interrupts - before
        }
    }

    #[test]
    fn a_driver_with_one_request_never_waits() {
        let mut policy = Moderation::new(HOLD);
        let mut play = Play::new(1, 10, 50);
        assert_eq!(play.run(&mut policy, 1000), 1000);
        assert_eq!((play.waited_longest, policy.depth()), (Duration::ZERO, 1));
    }

    #[test]
    fn without_hold_every_completion_is_told() {
        let mut policy = Moderation::new(Duration::ZERO);
        // It hears of each of them: none is submitted while another is on its way.
        let mut play = Play::new(32, 10, 5);
        assert_eq!(play.run(&mut policy, 1000), 1000);
        assert_eq!(play.waited_longest, Duration::ZERO);
    }

    #[test]
    fn a_deep_driver_is_told_rarely_and_seldom_left_waiting() {
        for depth in [32, 128] {
            let mut policy = Moderation::new(HOLD);
            let mut play = Play::new(depth, 10, 60);
            play.run(&mut policy, 1000);
            let interrupts = play.run(&mut policy, 10_000);
            assert!(interrupts < 1000, "{interrupts} at depth {depth}");
            // At least what it submits while an interrupt is on its way, four times.
            assert!(
                (20..=depth).contains(&policy.depth()),
                "{} of {depth}",
                policy.depth()
            );
            assert!(play.waited_longest < HOLD, "{:?}", play.waited_longest);
        }
    }

    #[test]
    fn a_driver_that_becomes_shallow_waits_once() {
        let mut policy = Moderation::new(HOLD);
        Play::new(32, 10, 60).run(&mut policy, 2000);
        let mut shallow = Play::new(1, 10, 50);
        assert_eq!(shallow.run(&mut policy, 1), 0, "the first one is held");
        assert_eq!(shallow.run(&mut policy, 100), 101, "and told of");
        assert!(
            shallow.waited_longest <= HOLD,
            "{:?}",
            shallow.waited_longest
        );
        let before = shallow.waited_longest;
        shallow.run(&mut policy, 1000);
        assert_eq!(shallow.waited_longest, before, "it waited again");
    }

    fn backlog(completed: u16, outstanding: u16) -> Backlog {
        Backlog {
            completed,
            outstanding,
            stale: false,
        }
    }

    #[test]
    fn a_held_interrupt_is_raised_in_time_however_many_more_come() {
        let start = Instant::now();
        let mut policy = Moderation::new(HOLD);
        assert_eq!(policy.completed(backlog(1, 1), || start), Interrupt::Raise);
        policy.submitted(100);
        policy.raised();
        let step = HOLD / 20;
        for count in 0..20 {
            let now = start + step * u32::from(count);
            let decision = policy.completed(backlog(count + 1, 100), || now);
            assert_eq!(decision, Interrupt::Hold, "after {count} steps");
            assert_eq!(
                policy.waited(|| now),
                Interrupt::Hold,
                "after {count} steps"
            );
        }
        let decision = policy.completed(backlog(21, 100), || start + HOLD);
        assert_eq!(decision, Interrupt::Raise);
        policy.raised();
        assert_eq!(policy.depth(), 21);
    }

    #[test]
    fn the_count_is_bounded_however_deep_the_driver() {
        let mut policy = Moderation::new(HOLD);
        policy.submitted(1024);
        policy.raised();
        let now = Instant::now;
        let few = policy.completed(backlog(COMPLETIONS_MAX - 1, 1024), now);
        assert_eq!(few, Interrupt::Hold);
        let many = policy.completed(backlog(COMPLETIONS_MAX, 1024), now);
        assert_eq!(many, Interrupt::Raise);
    }

    #[test]
    fn an_interrupt_that_a_polling_driver_did_not_ask_for_waits_long_and_is_forgotten() {
        let start = Instant::now();
        for hold in [Duration::ZERO, HOLD] {
            let mut policy = Moderation::new(hold);
            let stale = Backlog {
                stale: true,
                ..backlog(1, 1)
            };
            assert_eq!(policy.completed(stale, || start), Interrupt::Hold);
            assert_eq!(policy.waited(|| start + STALE_HOLD / 2), Interrupt::Hold);
            policy.settle();
            assert!(!policy.is_holding());
            assert_eq!(policy.completed(stale, || start), Interrupt::Hold);
            assert_eq!(policy.waited(|| start + STALE_HOLD), Interrupt::Raise);
        }
    }
}
