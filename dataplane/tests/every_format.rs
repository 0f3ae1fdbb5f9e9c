//! Every combination of ring features, driver and worker on threads of their own: many requests in flight,
//! published in batches, answered in any order, with either side polling or asleep.

mod common;
mod deferred;

use std::collections::BTreeMap;
use std::time::Instant;

use common::{PATIENCE, Rig, pattern, ram};
use deferred::Deferred;
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::PollMode;

const SIZE: u16 = 16;
const BLOCK: usize = 512;
/// Half of what a queue of [`SIZE`] has descriptors for at three a request, so that each lap of a packed
/// ring begins elsewhere.
const BATCH: u64 = 5;

/// Returns all combinations.
fn all_features() -> impl Iterator<Item = RingFeatures> {
    let all = [
        RingFeatures::INDIRECT_DESC,
        RingFeatures::EVENT_IDX,
        RingFeatures::RING_PACKED,
        RingFeatures::IN_ORDER,
    ];
    (0..1_u32 << all.len()).map(move |chosen| {
        let mut features = RingFeatures::empty();
        for (bit, feature) in all.into_iter().enumerate() {
            features.set(feature, chosen >> bit & 1 == 1);
        }
        features
    })
}

/// Waits for the next completion of a driver that sleeps until it is interrupted.
fn sleep_until_interrupted(rig: &mut Rig) {
    let before = rig.wires.interrupts();
    if rig.driver.queue.request_interrupt() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    while rig.wires.interrupts() == before {
        assert!(Instant::now() < deadline, "no interrupt");
        std::thread::yield_now();
    }
    rig.driver.queue.suppress_interrupts();
}

/// Submits `count` requests, published together, and waits for all. `is_write` says which way.
fn batch(rig: &mut Rig, round: u64, count: u64, is_write: bool, sleeps: bool) {
    let mut lent = BTreeMap::new();
    for place in 0..count {
        let sector = round % 64 * BATCH + place;
        let data = pattern(round * BATCH + place, BLOCK);
        let ticket = if is_write {
            rig.driver.write(sector, &data)
        } else {
            rig.driver.read(sector, BLOCK as u32)
        };
        lent.insert(ticket.expect("room for a batch"), data);
    }
    rig.publish();
    while !lent.is_empty() {
        if sleeps {
            sleep_until_interrupted(rig);
        }
        let done = rig.wait();
        let data = lent.remove(&done.ticket).expect("each comes back once");
        assert_eq!(done.status, 0);
        assert_eq!(done.written, if is_write { 1 } else { BLOCK as u32 + 1 });
        assert!(done.data == data, "round {round}");
    }
}

/// Writes and reads back in `rounds` rounds.
fn exercise(rig: &mut Rig, rounds: u64, sleeps: bool) {
    rig.driver.queue.suppress_interrupts();
    for round in 0..rounds {
        let count = 1 + round % BATCH;
        batch(rig, round, count, true, sleeps);
        batch(rig, round, count, false, sleeps);
    }
    assert_eq!(rig.worker.fault.load(), None);
}

#[test]
fn a_polling_driver_and_worker_agree() {
    for features in all_features() {
        let driver = BlockDriver::new(SIZE, BLOCK as u32, features).unwrap();
        let mut rig = Rig::new(&ram(), PollMode::Busy, driver);
        exercise(&mut rig, 120, false);
        assert_eq!(rig.wires.interrupts(), 0, "{features:?}");
        rig.end();
    }
}

#[test]
fn a_sleeping_driver_and_worker_wake_each_other() {
    for features in all_features() {
        let driver = BlockDriver::new(SIZE, BLOCK as u32, features).unwrap();
        let mut rig = Rig::new(&ram(), PollMode::Event, driver);
        exercise(&mut rig, 40, true);
        assert!(rig.worker.counters.kicks.get() > 0, "{features:?}");
        rig.end();
    }
}

/// Completions come in another order than requests, a few at a time.
#[test]
fn a_backend_that_reorders_is_put_in_order_where_that_was_agreed() {
    for features in all_features() {
        let backend = Deferred::new(usize::from(SIZE), false);
        let driver = BlockDriver::new(SIZE, BLOCK as u32, features).unwrap();
        let mut rig = Rig::new(&backend, PollMode::Busy, driver);
        for round in 0..16 {
            let mut submitted = Vec::new();
            for place in 0..BATCH {
                let ticket = rig.driver.write(place, &pattern(place, BLOCK));
                submitted.push(ticket.unwrap());
            }
            rig.publish();
            backend.await_pending(BATCH as usize);
            backend.finish_all(round);
            let done = (0..BATCH).map(|_| rig.wait().ticket);
            let mut done: Vec<u16> = done.collect();
            if !features.contains(RingFeatures::IN_ORDER) {
                done.sort_unstable();
                submitted.sort_unstable();
            }
            assert_eq!(done, submitted, "{features:?}");
        }
        rig.end();
    }
}
