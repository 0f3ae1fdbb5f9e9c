//! When operations end by a simulated clock, in which order, and with which data.

use std::sync::Arc;

use proptest::prelude::*;
use quanta::Mock;
use vm_memory::MmapRegion;

use super::*;
use crate::backend::recorder::{Accepted, Recorder, RecorderQueue};
use crate::blk::SectorRange;
use crate::limits::QUEUE_SIZE_MAX;
use crate::mem::Segment;

const US: Duration = Duration::from_micros(1);

struct Rig {
    disk: Recorder,
    queue: DelayQueue<RecorderQueue>,
    mock: Arc<Mock>,
}

fn rig(latency: Latency, seed: u64) -> Rig {
    let disk = Recorder::new();
    let latencies = Latencies {
        read: Latency::For(Duration::ZERO),
        write: latency,
        seed: Some(seed),
    };
    let (clock, mock) = Clock::mock();
    let delay = Delay {
        clock,
        ..Delay::new(disk.clone(), latencies)
    };
    let queue = delay.open_queue().unwrap();
    Rig { disk, queue, mock }
}

impl Rig {
    /// Flushes as often as a queue has tokens, and steps by a microsecond at a time until all are done. Returns how
    /// long each took, by token.
    fn times_us(&mut self) -> Vec<u64> {
        let mut times = vec![0; usize::from(QUEUE_SIZE_MAX)];
        for token in 0..QUEUE_SIZE_MAX {
            let _ = self.queue.submit(token, Operation::Flush);
        }
        let mut time_us = 0;
        while self.queue.in_flight() > 0 {
            while let Some((token, outcome)) = self.queue.complete() {
                assert_eq!(outcome, Outcome::Done);
                times[usize::from(token)] = time_us;
            }
            self.mock.increment(US);
            time_us += 1;
            assert!(time_us < 1_000_000, "some never complete");
        }
        times
    }

    /// Returns the mean and the standard deviation of ten queues full of flushes, and all times, in order.
    fn spread(&mut self) -> (f64, f64, Vec<u64>) {
        let mut times: Vec<u64> = (0..10).flat_map(|_| self.times_us()).collect();
        times.sort_unstable();
        let count = times.len() as f64;
        let mean = times.iter().sum::<u64>() as f64 / count;
        let square = |time: &u64| (*time as f64 - mean).powi(2);
        let deviation = (times.iter().map(square).sum::<f64>() / count).sqrt();
        (mean, deviation, times)
    }
}

#[test]
fn uniform_times_lie_anywhere_between() {
    let uniform = Latency::Uniform {
        min: 100 * US,
        max: 300 * US,
    };
    let (mean, deviation, times) = rig(uniform, 1).spread();
    // A step is late by half of itself on average; (300 - 100) / sqrt(12) is 57.7.
    assert!((mean - 200.5).abs() < 2.0, "{mean}");
    assert!((deviation - 57.7).abs() < 1.0, "{deviation}");
    assert!((100..103).contains(&times[0]), "{}", times[0]);
    let last = times[times.len() - 1];
    assert!((298..=300).contains(&last), "{last}");
}

#[test]
fn normal_times_have_their_mean_and_deviation() {
    let normal = |mean, deviation| Latency::Normal {
        mean: mean * US,
        deviation: deviation * US,
    };
    let (mean, deviation, times) = rig(normal(200, 20), 2).spread();
    assert!((mean - 200.5).abs() < 0.7, "{mean}");
    assert!((deviation - 20.0).abs() < 0.5, "{deviation}");
    let within = times.iter().filter(|time| (181..=220).contains(*time));
    let within = within.count() as f64 / times.len() as f64;
    assert!((within - 0.683).abs() < 0.015, "{within}");
    // What would be below zero is not held at all: half a deviation below the mean and less.
    let (_, _, times) = rig(normal(50, 100), 3).spread();
    let at_once = times.iter().filter(|time| **time == 0).count() as f64;
    let at_once = at_once / times.len() as f64;
    assert!((at_once - 0.3085).abs() < 0.015, "{at_once}");
}

#[test]
fn a_seed_repeats_the_times() {
    let uniform = Latency::Uniform {
        min: US,
        max: 500 * US,
    };
    let once = rig(uniform, 5).times_us();
    assert_eq!(once, rig(uniform, 5).times_us());
    assert_ne!(once, rig(uniform, 6).times_us());
}

#[test]
fn operations_overtake_each_other_and_those_of_one_time_do_not() {
    let uniform = Latency::Uniform {
        min: US,
        max: 5 * US,
    };
    for is_asynchronous in [false, true] {
        let mut rig = rig(uniform, 7);
        rig.disk.log().is_asynchronous = is_asynchronous;
        let times = rig.times_us();
        let handed_on: Vec<Token> = rig.disk.log().accepted.iter().map(|it| it.token).collect();
        assert!(!handed_on.is_sorted(), "nothing was overtaken");
        assert_eq!(handed_on.len(), times.len());
    }
    let mut rig = rig(Latency::For(US), 7);
    rig.times_us();
    assert!(rig.disk.log().accepted.is_sorted_by_key(|it| it.token));
}

#[test]
fn what_is_due_waits_for_a_busy_backend_and_the_first_due_goes_first() {
    let uniform = Latency::Uniform {
        min: US,
        max: 100 * US,
    };
    let mut rig = rig(uniform, 8);
    rig.disk.log().room = 0;
    for token in 0..100 {
        assert_eq!(
            rig.queue.submit(token, Operation::Flush),
            Submission::Pending
        );
    }
    rig.mock.increment(200 * US);
    for _ in 0..10 {
        assert_eq!(rig.queue.complete(), None);
    }
    assert_eq!((rig.queue.in_flight(), rig.disk.log().refused), (100, 10));
    let mut twin = self::rig(uniform, 8);
    let times = twin.times_us();
    // Others come all the time, and none of them goes before.
    for token in 100..200 {
        let _ = rig.queue.submit(token, Operation::Flush);
        rig.disk.log().room = 1;
        let (done, _) = rig.queue.complete().expect("there is room");
        assert!(done < 100);
        rig.mock.increment(US);
    }
    let accepted = rig.disk.log().accepted.clone();
    let due = |it: &Accepted| times[usize::from(it.token)];
    assert!(accepted.is_sorted_by_key(due), "{accepted:?}");
}

#[test]
fn nothing_grows_while_a_queue_is_full() {
    let mut rig = rig(Latency::For(US), 9);
    let before = rig.queue.held.capacities();
    for _ in 0..3 {
        rig.times_us();
        assert_eq!(rig.queue.submit(0, Operation::Flush), Submission::Pending);
        rig.queue.abandon();
    }
    assert_eq!(rig.queue.held.capacities(), before);
    for token in 0..QUEUE_SIZE_MAX {
        assert_eq!(
            rig.queue.submit(token, Operation::Flush),
            Submission::Pending
        );
    }
    assert_eq!(rig.queue.submit(0, Operation::Flush), Submission::Busy);
}

/// Which operation, and how many segments or ranges.
fn operations() -> impl Strategy<Value = Vec<(u8, usize)>> {
    prop::collection::vec((0_u8..5, 1_usize..20), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    #[test]
    fn each_is_handed_on_once_and_as_it_came(operations in operations(), seed: u64) {
        let region = MmapRegion::<()>::new(1 << 20).unwrap();
        let uniform = Latency::Uniform { min: US, max: 50 * US };
        let mut rig = rig(uniform, seed);
        let mut expected = Vec::new();
        for (token, (kind, parts)) in (0..).zip(operations) {
            let first = u64::from(token) * 100;
            let count = parts as u64;
            let at = |part: usize| (usize::from(token) * 20 + part) * 512 % (1 << 20);
            let segment = |part| Segment::of_region(&region, at(part), 512).unwrap();
            let data: Vec<_> = (0..parts).map(segment).collect();
            let piece = |part: u64| SectorRange { first: first + part, count: 1 };
            let ranges: Vec<_> = (0..count).map(piece).collect();
            let range = SectorRange { first, count };
            let operation = match kind {
                0 => Operation::Read { range, into: &data },
                1 => Operation::Write { range, from: &data },
                2 => Operation::Flush,
                3 => Operation::Discard(&ranges),
                4 => Operation::SecureErase(&ranges),
                _ => Operation::WriteZeroes { ranges: &ranges, unmap: parts % 2 == 0 },
            };
            expected.push(Accepted::of(token, operation));
            let submission = rig.queue.submit(token, operation);
            prop_assert_ne!(submission, Submission::Busy);
            rig.mock.increment(US);
            let _ = rig.queue.complete();
        }
        rig.mock.increment(50 * US);
        while rig.queue.complete().is_some() {}
        prop_assert_eq!(rig.queue.in_flight(), 0);
        let mut accepted = rig.disk.log().accepted.clone();
        accepted.sort_by_key(|it| it.token);
        prop_assert_eq!(accepted, expected);
    }
}
