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
                    // While an interrupt is on its way the driver has not asked anew.
                    if self.taken.is_none() {
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
    fn a_driver_with_one_request_is_kept_waiting_ever_more_rarely() {
        let mut policy = Moderation::new(HOLD);
        let mut play = Play::new(1, 10, 50);
        let mut waits = Vec::new();
        for turn in 0..20_000 {
            play.waited_longest = Duration::ZERO;
            play.run(&mut policy, 1);
            if policy.is_holding() {
                waits.push(turn);
            }
        }
        // After 8 interrupts, then twice as many each time, up to 4096.
        assert!(waits.len() <= 13, "{waits:?}");
        assert!(
            waits.windows(3).all(|w| w[2] - w[1] + 1 >= w[1] - w[0]),
            "{waits:?}"
        );
        assert_eq!(policy.depth(), 1);
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
            play.run(&mut policy, 2000);
            let interrupts = play.run(&mut policy, 10_000);
            assert!(interrupts < 1000, "{interrupts} at depth {depth}");
            assert!(policy.depth() >= 16, "{} of {depth}", policy.depth());
            assert!(play.waited_longest < HOLD, "{:?}", play.waited_longest);
        }
    }

    #[test]
    fn a_driver_that_becomes_shallow_waits_a_few_times() {
        let mut policy = Moderation::new(HOLD);
        Play::new(32, 10, 60).run(&mut policy, 5000);
        assert!(policy.depth() >= 16, "{}", policy.depth());
        let mut shallow = Play::new(1, 10, 50);
        let mut waits = 0;
        for _ in 0..1000 {
            shallow.run(&mut policy, 1);
            waits += u32::from(policy.is_holding());
        }
        assert!((1..30).contains(&waits), "{waits}");
        assert!(
            shallow.waited_longest <= HOLD / 2,
            "{:?}",
            shallow.waited_longest
        );
        assert_eq!(policy.depth(), 1);
    }

    #[test]
    fn a_driver_that_becomes_deep_is_found_out() {
        let mut policy = Moderation::new(HOLD);
        Play::new(1, 10, 50).run(&mut policy, 20_000);
        // Its interrupts come so soon that it never seems to have two outstanding.
        let mut deep = Play::new(32, 10, 5);
        deep.run(&mut policy, 20_000);
        assert!(policy.depth() >= 16, "{}", policy.depth());
    }

    fn backlog(completed: u16, outstanding: u16) -> Backlog {
        Backlog {
            completed,
            outstanding,
            stale: false,
        }
    }

    /// A policy over a driver that never fell silent, as far as it has come with it.
    fn trying_for(enough: u16) -> Moderation {
        let mut policy = Moderation::new(HOLD);
        while policy.enough() < enough {
            policy.raised();
        }
        policy
    }

    #[test]
    fn a_held_interrupt_is_raised_in_time_however_many_more_come() {
        let start = Instant::now();
        let mut policy = trying_for(COMPLETIONS_MAX);
        let step = HOLD / 20;
        for count in 0..20_u16 {
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
        assert_eq!(policy.depth(), 21);
    }

    #[test]
    fn the_count_is_bounded_however_deep_the_driver() {
        let mut policy = trying_for(COMPLETIONS_MAX);
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
