//! Which requests fail, and that those never reach what is wrapped.

use vm_memory::MmapRegion;

use super::*;
use crate::backend::recorder::{Recorder, RecorderQueue};
use crate::mem::Segment;

const FAILED: Outcome = Outcome::Failed { errno: 28 };

fn rule() -> FailureRule {
    FailureRule {
        probability: 1.0,
        kinds: OperationKinds::all(),
        bytes: None,
        outcome: FAILED,
        sticky: false,
        seed: Some(1),
    }
}

fn open(rule: FailureRule) -> (Recorder, Failing<Recorder>, FailingQueue<RecorderQueue>) {
    let disk = Recorder::new();
    let failing = Failing::new(disk.clone(), rule);
    let queue = failing.open_queue().unwrap();
    (disk, failing, queue)
}

fn fails(queue: &mut FailingQueue<RecorderQueue>, operation: Operation<'_, '_>) -> bool {
    match queue.submit(0, operation) {
        Submission::Complete(Outcome::Done) => false,
        Submission::Complete(FAILED) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_fail_at_their_rate_and_the_same_ones_with_the_same_seed() {
    let draws = |seed| {
        let (disk, _, mut queue) = open(FailureRule {
            probability: 0.01,
            seed,
            ..rule()
        });
        let draws: Vec<bool> = (0..100_000)
            .map(|_| fails(&mut queue, Operation::Flush))
            .collect();
        let passed = draws.iter().filter(|failed| !**failed).count();
        assert_eq!(disk.log().accepted.len(), passed);
        draws
    };
    let once = draws(Some(1));
    let failed = once.iter().filter(|failed| **failed).count();
    // Three standard deviations of the binomial distribution.
    assert!(failed.abs_diff(1000) < 95, "{failed}");
    assert!(once == draws(Some(1)));
    assert!(once != draws(Some(2)));
}

#[test]
fn a_range_ends_where_it_ends() {
    let region = MmapRegion::<()>::new(1 << 16).unwrap();
    let (disk, _, mut queue) = open(FailureRule {
        bytes: Some(4096..8192),
        ..rule()
    });
    for (first, count, expected) in [
        (0, 8, false),
        (0, 9, true),
        (7, 1, false),
        (8, 1, true),
        (12, 0, false),
        (15, 1, true),
        (15, 8, true),
        (16, 8, false),
        (0, 64, true),
        (u64::MAX >> 10, 8, false),
    ] {
        let range = SectorRange { first, count };
        let data = [Segment::of_region(&region, 0, range.bytes() as usize).unwrap()];
        let read = Operation::Read { range, into: &data };
        let write = Operation::Write { range, from: &data };
        let elsewhere = SectorRange {
            first: 1000,
            count: 8,
        };
        let ranges = [elsewhere, range];
        let discard = Operation::Discard(&ranges);
        let zeroes = Operation::WriteZeroes {
            ranges: &ranges,
            unmap: false,
        };
        for operation in [read, write, discard, zeroes] {
            let before = disk.log().accepted.len();
            assert_eq!(fails(&mut queue, operation), expected, "{operation:?}");
            let reached = disk.log().accepted.len() - before;
            assert_eq!(reached, usize::from(!expected), "{operation:?}");
        }
    }
    assert!(!fails(&mut queue, Operation::Flush));
    assert!(!fails(&mut queue, Operation::Discard(&[])));
}

#[test]
fn only_the_kinds_that_were_named_fail() {
    let all = [
        (OperationKinds::READ, "read"),
        (OperationKinds::WRITE, "write"),
        (OperationKinds::FLUSH, "flush"),
        (OperationKinds::DISCARD, "discard"),
        (OperationKinds::WRITE_ZEROES, "unmap"),
        (OperationKinds::SECURE_ERASE, "secure_erase"),
    ];
    for (named, name) in all {
        let (disk, _, mut queue) = open(FailureRule {
            kinds: OperationKinds::all() - named,
            ..rule()
        });
        let range = SectorRange { first: 0, count: 0 };
        for operation in [
            Operation::Read { range, into: &[] },
            Operation::Write { range, from: &[] },
            Operation::Flush,
            Operation::Discard(&[]),
            Operation::SecureErase(&[]),
            Operation::WriteZeroes {
                ranges: &[],
                unmap: true,
            },
        ] {
            fails(&mut queue, operation);
        }
        let log = disk.log();
        let passed: Vec<&str> = log.accepted.iter().map(|it| it.kind).collect();
        assert_eq!(passed, [name]);
    }
}

#[test]
fn a_sticky_rule_holds_on_every_queue_from_its_first_failure_on() {
    let (_, failing, mut queue) = open(FailureRule {
        probability: 0.001,
        kinds: OperationKinds::FLUSH,
        sticky: true,
        ..rule()
    });
    let mut other = failing.open_queue().unwrap();
    let before = (0..100_000)
        .take_while(|_| !fails(&mut queue, Operation::Flush))
        .count();
    assert!((1..100_000).contains(&before), "{before}");
    for _ in 0..1000 {
        assert!(fails(&mut queue, Operation::Flush) && fails(&mut other, Operation::Flush));
        assert!(!fails(&mut other, Operation::Discard(&[])));
    }
}

#[test]
fn a_request_is_drawn_for_once_however_long_what_is_wrapped_is_busy() {
    let (disk, _, mut queue) = open(FailureRule {
        probability: 0.5,
        ..rule()
    });
    let mut failed = 0;
    for token in 0..1000 {
        disk.log().room = 0;
        let submitted: Vec<Submission> = (0..20)
            .map(|_| queue.submit(token, Operation::Flush))
            .take_while(|it| *it == Submission::Busy)
            .collect();
        disk.log().room = 1;
        match submitted.len() {
            0 => failed += 1,
            20 => {
                let passed = queue.submit(token, Operation::Flush);
                assert_eq!(passed, Submission::Complete(Outcome::Done));
            }
            refused => panic!("failed after it was spared {refused} times"),
        }
    }
    assert!((450..550).contains(&failed), "{failed}");
}

#[test]
fn what_passes_is_abandoned_with_the_rest() {
    let (disk, _, mut queue) = open(FailureRule {
        kinds: OperationKinds::READ,
        ..rule()
    });
    disk.log().is_asynchronous = true;
    assert_eq!(queue.submit(3, Operation::Flush), Submission::Pending);
    queue.commit();
    assert_eq!(queue.in_flight(), 1);
    queue.abandon();
    assert_eq!((queue.in_flight(), queue.complete()), (0, None));
    assert_eq!(disk.log().abandons, 1);
}
