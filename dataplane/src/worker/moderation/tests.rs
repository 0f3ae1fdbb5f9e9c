//! Moderation against drivers that are played.

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

#[test]
fn an_interrupt_that_is_asked_for_after_all_is_held_no_longer_than_any_other() {
    let start = Instant::now();
    let mut policy = trying_for(2);
    let stale = Backlog {
        stale: true,
        ..backlog(1, 1)
    };
    assert_eq!(policy.completed(stale, || start), Interrupt::Hold);
    let later = start + HOLD * 3;
    assert_eq!(policy.completed(backlog(1, 1), || later), Interrupt::Hold);
    assert_eq!(policy.waited(|| later + HOLD), Interrupt::Raise);
}
