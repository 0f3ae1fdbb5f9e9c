//! Interrupt moderation: when to raise an interrupt that the driver asked for. Pure: the time comes in
//! from outside.
//!
//! Raising one a request makes the driver's CPU work on interrupts instead of submitting; raising none
//! until a timer ends makes a driver wait that has nothing else to do. What tells the two apart is how
//! many requests the driver keeps outstanding: once enough of them are done, it is about to run out of
//! work and should hear of it at once. That number is learned from the ring itself, where
//! `avail_idx - used_event` is what the driver has submitted and not yet taken back.

use std::time::Duration;

use quanta::Instant;

use crate::ring::Backlog;

/// Completions after which an interrupt is raised whatever the driver's depth: bounds how much the
/// driver has to take back at once.
const COMPLETIONS_MAX: u16 = 256;

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
    /// The most requests that the driver was seen to keep outstanding, lately.
    depth: u16,
    /// Since when an interrupt is held.
    held_since: Option<Instant>,
    /// Completions when it was last decided to hold.
    held: u16,
}

impl Moderation {
    /// Returns a policy that holds an interrupt for at most `hold`; zero never holds one.
    pub fn new(hold: Duration) -> Self {
        Self {
            hold,
            depth: 1,
            held_since: None,
            held: 0,
        }
    }

    /// Returns whether an interrupt is held.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.held_since.is_some()
    }

    /// Notes new completions that the driver wants an interrupt for. Returns whether to raise it.
    #[inline]
    pub fn completed(&mut self, backlog: Backlog, now: impl FnOnce() -> Instant) -> Interrupt {
        self.depth = self.depth.max(backlog.outstanding);
        // Half of what the driver keeps outstanding: it goes on submitting the other half while the
        // interrupt is on its way.
        let enough = self.depth.div_ceil(2).min(COMPLETIONS_MAX);
        if self.hold.is_zero() || backlog.completed >= enough {
            return Interrupt::Raise;
        }
        self.held = backlog.completed;
        let now = now();
        let since = *self.held_since.get_or_insert(now);
        if now.duration_since(since) >= self.hold {
            self.expire()
        } else {
            Interrupt::Hold
        }
    }

    /// Returns whether an interrupt that is held has been held long enough.
    #[inline]
    pub fn waited(&mut self, now: impl FnOnce() -> Instant) -> Interrupt {
        match self.held_since {
            Some(since) if now().duration_since(since) >= self.hold => self.expire(),
            _ => Interrupt::Hold,
        }
    }

    /// Forgets an interrupt that was held: it is raised, or the driver does not want it any more.
    #[inline]
    pub fn settle(&mut self) {
        self.held_since = None;
    }

    /// The driver stopped short of the depth that was learned: learn the new one.
    #[cold]
    fn expire(&mut self) -> Interrupt {
        self.depth = self.held.max(1);
        Interrupt::Raise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_micros(100);

    /// A driver that keeps up to `depth` requests outstanding over a device that completes each as it
    /// comes, and goes on when it is interrupted. Each request takes `gap` to submit. Returns the
    /// interrupts for `requests` requests, and how often the hold ended by time.
    fn play(policy: &mut Moderation, depth: u16, gap: Duration, requests: u32) -> (u32, u32) {
        let mut now = Instant::now();
        let (mut interrupts, mut expired) = (0, 0);
        let mut completed = 0;
        for _ in 0..requests {
            now += gap;
            completed += 1;
            let backlog = Backlog {
                completed,
                outstanding: completed,
            };
            let mut decision = policy.completed(backlog, || now);
            if decision == Interrupt::Hold && completed == depth {
                // The driver has nothing more to submit: only time helps.
                now += HOLD;
                expired += 1;
                decision = policy.waited(|| now);
                assert_eq!(decision, Interrupt::Raise, "held for ever");
            }
            if decision == Interrupt::Raise {
                policy.settle();
                interrupts += 1;
                completed = 0;
            }
        }
        (interrupts, expired)
    }

    #[test]
    fn a_driver_with_one_request_never_waits() {
        let mut policy = Moderation::new(HOLD);
        assert_eq!(
            play(&mut policy, 1, Duration::from_micros(10), 1000),
            (1000, 0)
        );
    }

    #[test]
    fn without_hold_every_completion_is_told() {
        let mut policy = Moderation::new(Duration::ZERO);
        assert_eq!(
            play(&mut policy, 32, Duration::from_micros(1), 1000),
            (1000, 0)
        );
    }

    #[test]
    fn a_held_interrupt_is_raised_in_time() {
        let start = Instant::now();
        let mut policy = Moderation::new(HOLD);
        let deep = Backlog {
            completed: 1,
            outstanding: 32,
        };
        assert_eq!(policy.completed(deep, || start), Interrupt::Hold);
        assert!(policy.is_holding());
        assert_eq!(policy.waited(|| start + HOLD / 2), Interrupt::Hold);
        // More completions do not extend the time.
        let more = Backlog {
            completed: 2,
            outstanding: 32,
        };
        assert_eq!(policy.completed(more, || start + HOLD / 2), Interrupt::Hold);
        assert_eq!(policy.waited(|| start + HOLD), Interrupt::Raise);
    }

    #[test]
    fn a_deep_driver_is_told_once_for_many_and_a_shallow_one_is_relearned_after_one_wait() {
        let start = Instant::now();
        let mut policy = Moderation::new(HOLD);
        // All 32 are submitted before the first completes.
        for completed in 1..16 {
            let backlog = Backlog {
                completed,
                outstanding: 32,
            };
            assert_eq!(policy.completed(backlog, || start), Interrupt::Hold);
        }
        let half = Backlog {
            completed: 16,
            outstanding: 32,
        };
        assert_eq!(policy.completed(half, || start), Interrupt::Raise);
        policy.settle();
        let (interrupts, expired) = play(&mut policy, 1, Duration::from_micros(10), 100);
        assert_eq!((interrupts, expired), (100, 1));
    }

    #[test]
    fn the_count_is_bounded_however_deep_the_driver() {
        let mut policy = Moderation::new(HOLD);
        let backlog = Backlog {
            completed: COMPLETIONS_MAX,
            outstanding: 1024,
        };
        assert_eq!(policy.completed(backlog, Instant::now), Interrupt::Raise);
    }
}
