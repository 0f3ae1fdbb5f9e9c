//! What a worker does when there is nothing to do. Pure: the time comes in from outside.

use std::time::Duration;

use quanta::Instant;

/// How a worker waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollMode {
    /// It never sleeps.
    Busy,
    /// It polls for this long after the last request, then sleeps until a kick.
    Adaptive(Duration),
    /// It sleeps as soon as there is nothing to do.
    Event,
}

/// What to do after an idle pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Look again.
    Spin,
    /// Arm the kick and sleep.
    Sleep,
}

/// Idle passes between two looks at the clock, which costs more than a pass.
const PASSES_A_LOOK: u32 = 32;

/// Decides between polling and sleeping.
#[derive(Debug)]
pub struct IdlePolicy {
    mode: PollMode,
    passes: u32,
    since: Option<Instant>,
}

impl IdlePolicy {
    /// Returns the policy for `mode`.
    pub fn new(mode: PollMode) -> Self {
        Self {
            mode,
            passes: 0,
            since: None,
        }
    }

    /// Returns how the worker waits.
    pub fn mode(&self) -> PollMode {
        self.mode
    }

    /// Notes that a pass did something.
    #[inline]
    pub fn busy(&mut self) {
        self.passes = 0;
        self.since = None;
    }

    /// Notes that a pass found nothing. Returns what to do about it; `now` is called only sometimes.
    #[inline]
    pub fn idle(&mut self, now: impl FnOnce() -> Instant) -> Idle {
        let window = match self.mode {
            PollMode::Busy => return Idle::Spin,
            PollMode::Event => return Idle::Sleep,
            PollMode::Adaptive(window) => window,
        };
        self.passes = self.passes.wrapping_add(1);
        if !self.passes.is_multiple_of(PASSES_A_LOOK) {
            return Idle::Spin;
        }
        self.waited(now(), window)
    }

    /// Notes that a round over `queues` queues found nothing in any. Returns what to do about it; `now` is called only
    /// sometimes.
    pub fn idle_round(&mut self, queues: usize, now: impl FnOnce() -> Instant) -> Idle {
        let window = match self.mode {
            PollMode::Busy => return Idle::Spin,
            PollMode::Event => return Idle::Sleep,
            PollMode::Adaptive(window) => window,
        };
        let queues = u32::try_from(queues).unwrap_or(PASSES_A_LOOK);
        self.passes = self.passes.saturating_add(queues.max(1));
        if self.passes < PASSES_A_LOOK {
            return Idle::Spin;
        }
        self.passes = 0;
        self.waited(now(), window)
    }

    #[inline]
    fn waited(&mut self, now: Instant, window: Duration) -> Idle {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= window {
            Idle::Sleep
        } else {
            Idle::Spin
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_over_many_queues_looks_at_the_clock_each_time() {
        let start = Instant::now();
        for (queues, looks) in [(1, 3), (31, 50), (32, 100), (1000, 100)] {
            let mut policy = IdlePolicy::new(PollMode::Adaptive(Duration::from_secs(1)));
            let mut seen = 0;
            for _ in 0..100 {
                let idle = policy.idle_round(queues, || {
                    seen += 1;
                    start
                });
                assert_eq!(idle, Idle::Spin);
            }
            assert_eq!(seen, looks, "{queues} queues");
            policy.idle_round(queues.max(32), || start + Duration::from_secs(1));
            assert_eq!(
                policy.idle_round(32, || start + Duration::from_secs(1)),
                Idle::Sleep
            );
        }
    }

    /// Returns the decisions of `passes` idle passes, one microsecond apart.
    fn decide(policy: &mut IdlePolicy, passes: u32, start: Instant) -> Vec<Idle> {
        let at = |pass| start + Duration::from_micros(u64::from(pass));
        (0..passes).map(|pass| policy.idle(|| at(pass))).collect()
    }

    #[test]
    fn busy_never_sleeps_and_event_always_does() {
        let start = Instant::now();
        let busy = decide(&mut IdlePolicy::new(PollMode::Busy), 100_000, start);
        assert!(busy.iter().all(|&idle| idle == Idle::Spin));
        let event = decide(&mut IdlePolicy::new(PollMode::Event), 3, start);
        assert_eq!(event, [Idle::Sleep; 3]);
    }

    #[test]
    fn adaptive_sleeps_after_its_window_and_a_request_restarts_it() {
        let start = Instant::now();
        let mut policy = IdlePolicy::new(PollMode::Adaptive(Duration::from_micros(100)));
        let first = decide(&mut policy, 200, start);
        let slept_after = first.iter().position(|&idle| idle == Idle::Sleep);
        assert!(
            (100..=200).contains(&slept_after.expect("it sleeps")),
            "{slept_after:?}"
        );
        policy.busy();
        let again = decide(&mut policy, 100, start);
        assert!(again.iter().all(|&idle| idle == Idle::Spin));
    }
}
