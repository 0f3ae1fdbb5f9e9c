//! Requests that storage is asked to end before they are given up.

mod common;
mod deferred;

use std::time::Instant;

use common::Rig;
use deferred::{ABORT_TIME, Deferred};
use pollux_dataplane::backend::Outcome;
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::{Answer, Command, PollMode};

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const ABORTED: Outcome = Outcome::Failed { errno: 125 };

/// Returns a worker whose backend has three reads, of which the first end as `aborted` says when they are.
fn rig(aborted: &[Outcome]) -> (Deferred, Rig) {
    let backend = Deferred::new(8, true);
    backend.state().aborted = aborted.to_vec();
    let driver = BlockDriver::new(64, 4096, RingFeatures::INDIRECT_DESC).unwrap();
    let mut rig = Rig::new(&backend, PollMode::Busy, driver);
    for sector in 0..3 {
        rig.driver.read(sector, 512).expect("room in the queue");
    }
    rig.publish();
    backend.await_pending(3);
    (backend, rig)
}

/// Has the worker give up all that it has. Returns how much failed.
fn give_up(rig: &Rig) -> usize {
    let abandon = Command::Abandon {
        beats: 0,
        refuse: false,
    };
    match rig.ask(abandon) {
        Answer::Abandoned(count) => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_request_ends_as_the_storage_ended_it() {
    let (backend, mut rig) = rig(&[Outcome::Done, ABORTED, ABORTED]);
    let start = Instant::now();
    assert_eq!(give_up(&rig), 2);
    assert!(start.elapsed() < ABORT_TIME, "all had ended");
    let statuses = [(); 3].map(|()| rig.wait().status);
    assert_eq!(statuses, [OK, IO_ERROR, IO_ERROR]);
    assert_eq!(backend.state().abandons, 1);
    rig.driver.read(9, 512).expect("room in the queue");
    rig.publish();
    backend.await_pending(1);
    backend.finish(0);
    assert_eq!(rig.wait().status, OK);
    rig.end();
}

#[test]
fn what_is_not_ended_in_time_is_given_up() {
    let (backend, mut rig) = rig(&[Outcome::Done]);
    let start = Instant::now();
    assert_eq!(give_up(&rig), 2);
    assert!(start.elapsed() >= ABORT_TIME);
    let statuses = [(); 3].map(|()| rig.wait().status);
    assert_eq!(statuses, [OK, IO_ERROR, IO_ERROR]);
    let (pending, abandons) = (backend.pending(), backend.state().abandons);
    assert_eq!((pending, abandons), (0, 1));
    rig.end();
}
