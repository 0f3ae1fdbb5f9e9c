//! What passes in a simulated time, from one queue and from several.

use quanta::Mock;
use vm_memory::MmapRegion;

use super::*;
use crate::backend::recorder::{Recorder, RecorderQueue};
use crate::blk::SectorRange;
use crate::limits::QUEUE_SIZE_MAX;
use crate::mem::Segment;

const MS: Duration = Duration::from_millis(1);

struct Rig {
    disk: Recorder,
    throttle: Throttle<Recorder>,
    mock: Arc<Mock>,
}

/// A queue, and a driver that keeps `depth` requests outstanding.
struct Load {
    queue: ThrottleQueue<RecorderQueue>,
    free: Vec<Token>,
    /// Requests that are completed.
    done: u64,
}

fn rate(per_second: u64, burst: u64) -> Option<Rate> {
    Some(Rate { per_second, burst })
}

fn rig(iops: Option<Rate>, bps: Option<Rate>) -> Rig {
    let disk = Recorder::new();
    let (clock, mock) = Clock::mock();
    // Any clock is somewhere by now.
    mock.increment(12_345_u64);
    let throttle = Throttle::with_clock(disk.clone(), RateLimits { iops, bps }, clock);
    Rig {
        disk,
        throttle,
        mock,
    }
}

impl Rig {
    fn load(&self, depth: Token) -> Load {
        Load {
            queue: self.throttle.open_queue().unwrap(),
            free: (0..depth).collect(),
            done: 0,
        }
    }

    /// Lets `loads` run for `time`, with a look at each every 100 us.
    fn run(&self, loads: &mut [Load], time: Duration) {
        for _ in 0..time.as_micros() / 100 {
            for load in &mut *loads {
                load.turn(Operation::Flush);
            }
            self.mock.increment(Duration::from_micros(100));
        }
    }
}

impl Load {
    fn turn(&mut self, operation: Operation<'_, '_>) {
        loop {
            let before = self.done;
            while let Some((token, _)) = self.queue.complete() {
                self.done += 1;
                self.free.push(token);
            }
            for token in std::mem::take(&mut self.free) {
                match self.queue.submit(token, operation) {
                    Submission::Complete(_) => self.done += 1,
                    Submission::Pending => continue,
                    Submission::Busy => {}
                }
                self.free.push(token);
            }
            self.queue.commit();
            if self.done == before {
                return;
            }
        }
    }
}

#[test]
fn requests_pass_at_their_rate_after_a_burst() {
    for (per_second, burst) in [(100, 1), (1_000, 100), (50_000, 20)] {
        let rig = rig(rate(per_second, burst), None);
        let mut loads = [rig.load(64)];
        rig.run(&mut loads, 1000 * MS);
        let first = loads[0].done;
        let expected = per_second + burst;
        assert!(
            first.abs_diff(expected) <= 1 + expected / 500,
            "{first} of {expected}"
        );
        rig.run(&mut loads, 9_000 * MS);
        let later = loads[0].done - first;
        let expected = 9 * per_second;
        assert!(
            later.abs_diff(expected) <= 1 + expected / 500,
            "{later} of {expected}"
        );
        // A rest gives one burst, however long it is.
        rig.mock.increment(3_600_000 * MS);
        let before = loads[0].done;
        loads[0].turn(Operation::Flush);
        let at_once = loads[0].done - before;
        assert!((burst..=burst + 1).contains(&at_once), "{at_once}");
    }
}

#[test]
fn bytes_pass_at_their_rate_whatever_the_size_of_requests() {
    let region = MmapRegion::<()>::new(1 << 20).unwrap();
    for sectors in [1, 8, 256, 2048] {
        let rig = rig(None, rate(10 << 20, 1 << 20));
        let mut load = rig.load(32);
        let range = SectorRange {
            first: 0,
            count: sectors,
        };
        let data = [Segment::of_region(&region, 0, range.bytes() as usize).unwrap()];
        let write = Operation::Write { range, from: &data };
        for _ in 0..10_000 {
            load.turn(write);
            rig.mock.increment(MS);
        }
        let bytes = (load.done * range.bytes()) as f64;
        let expected = (101 << 20) as f64;
        assert!(
            (bytes / expected - 1.0).abs() < 0.011,
            "{bytes} of {expected}"
        );
    }
}

#[test]
fn both_limits_hold_and_a_flush_has_no_bytes() {
    let region = MmapRegion::<()>::new(4096).unwrap();
    let range = SectorRange { first: 0, count: 8 };
    let data = [Segment::of_region(&region, 0, 4096).unwrap()];
    let read = Operation::Read { range, into: &data };
    // 4 KiB at 40 KiB/s are 10 a second, and requests may be 20.
    let rig = rig(rate(20, 1), rate(40 << 10, 4096));
    let mut load = rig.load(4);
    for (operation, expected) in [(read, 100), (Operation::Flush, 200)] {
        let before = load.done;
        for _ in 0..10_000 {
            load.turn(operation);
            rig.mock.increment(MS);
        }
        let passed = load.done - before;
        assert!(
            passed.abs_diff(expected) <= 5,
            "{operation:?}: {passed} of {expected}"
        );
    }
}

#[test]
fn a_flush_does_not_wait_for_bytes_of_others() {
    let region = MmapRegion::<()>::new(4096).unwrap();
    let range = SectorRange { first: 0, count: 8 };
    let from = &[Segment::of_region(&region, 0, 4096).unwrap()];
    let rig = rig(None, rate(512, 512));
    let mut queue = rig.throttle.open_queue().unwrap();
    let done = Submission::Complete(Outcome::Done);
    let write = Operation::Write { range, from };
    assert_eq!(queue.submit(0, write), done);
    assert_eq!(queue.submit(1, Operation::Flush), done);
    assert_eq!(queue.submit(2, write), Submission::Pending);
}

#[test]
fn queues_share_a_limit_evenly_however_deep_they_are() {
    let rig = rig(rate(1_000, 10), None);
    let mut loads = [1, 8, 64, 512].map(|depth| rig.load(depth));
    rig.run(&mut loads, 10_000 * MS);
    let done: Vec<u64> = loads.iter().map(|load| load.done).collect();
    let total: u64 = done.iter().sum();
    assert!(total.abs_diff(10_010) <= 20, "{done:?}");
    assert!(done.iter().all(|done| *done >= 2_000), "{done:?}");
}

#[test]
fn a_queue_keeps_its_order() {
    for is_asynchronous in [false, true] {
        let rig = rig(rate(1_000, 5), rate(1 << 20, 4096));
        rig.disk.log().is_asynchronous = is_asynchronous;
        let region = MmapRegion::<()>::new(8192).unwrap();
        let data = [Segment::of_region(&region, 0, 8192).unwrap()];
        let range = SectorRange {
            first: 0,
            count: 16,
        };
        let mut queue = rig.throttle.open_queue().unwrap();
        for token in 0..100 {
            let operation = match token % 3 {
                0 => Operation::Write { range, from: &data },
                _ => Operation::Flush,
            };
            assert_ne!(queue.submit(token, operation), Submission::Busy);
        }
        queue.commit();
        // It is busy in between.
        for room in [50, 100] {
            rig.disk.log().room = room;
            for _ in 0..100 {
                while queue.complete().is_some() {}
                rig.mock.increment(100 * MS);
            }
        }
        assert!(rig.disk.log().refused > 0);
        let accepted = rig.disk.log().accepted.clone();
        let tokens: Vec<Token> = accepted.iter().map(|it| it.token).collect();
        assert!(tokens == (0..100).collect::<Vec<_>>(), "{tokens:?}");
    }
}

#[test]
fn what_waits_for_a_busy_backend_pays_once() {
    let rig = rig(rate(10, 1), None);
    let mut queue = rig.throttle.open_queue().unwrap();
    rig.disk.log().room = 0;
    for token in [0, 1] {
        assert_eq!(queue.submit(token, Operation::Flush), Submission::Pending);
    }
    for _ in 0..50 {
        assert_eq!(queue.complete(), None);
    }
    rig.disk.log().room = 2;
    assert_eq!(queue.complete(), Some((0, Outcome::Done)));
    assert_eq!(queue.complete(), None);
    rig.mock.increment(99 * MS);
    assert_eq!(queue.complete(), None);
    rig.mock.increment(MS);
    assert_eq!(queue.complete(), Some((1, Outcome::Done)));
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn what_is_abandoned_leaves_no_debt() {
    let rig = rig(rate(10, 1), None);
    let mut queue = rig.throttle.open_queue().unwrap();
    assert_eq!(
        queue.submit(0, Operation::Flush),
        Submission::Complete(Outcome::Done)
    );
    for token in 0..QUEUE_SIZE_MAX {
        assert_eq!(queue.submit(token, Operation::Flush), Submission::Pending);
    }
    assert_eq!(queue.submit(0, Operation::Flush), Submission::Busy);
    assert_eq!(queue.in_flight(), usize::from(QUEUE_SIZE_MAX));
    queue.abandon();
    assert_eq!(queue.in_flight(), 0);
    rig.mock.increment(200 * MS);
    assert_eq!(queue.complete(), None);
    let log = rig.disk.log();
    assert_eq!((log.accepted.len(), log.abandons), (1, 1));
    drop(log);
    assert_eq!(
        queue.submit(7, Operation::Flush),
        Submission::Complete(Outcome::Done)
    );
}

#[test]
fn threads_take_from_one_bucket_without_losing_anything() {
    let bucket = Bucket::new(Rate {
        per_second: 1_000_000_000,
        burst: 1,
    });
    let take = || (0..10_000).map(|_| bucket.take(1, 0)).collect::<Vec<u64>>();
    let mut dues = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(take));
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    dues.sort_unstable();
    let expected: Vec<u64> = (0..40_000).map(|due| due * TICKS_PER_NS).collect();
    assert!(dues == expected);
}
