//! A worker over storage that completes later: order, room, draining, hanging, sleeping.

mod common;
mod deferred;

use std::time::{Duration, Instant};

use common::{PATIENCE, Rig, at, pattern};
use deferred::Deferred;
use pollux_dataplane::backend::Outcome;
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::limits::DRAIN_MS_MAX;
use pollux_dataplane::mem::RegionTable;
use pollux_dataplane::ring::{DriverFault, QueueConfig, RingFeatures};
use pollux_dataplane::worker::{Answer, Command, PollMode, QueueSetup, Unanswered};

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

const MODES: [PollMode; 3] = [
    PollMode::Busy,
    PollMode::Adaptive(Duration::from_micros(50)),
    PollMode::Event,
];

/// Longer than a worker that looks would take.
const A_WHILE: Duration = Duration::from_millis(30);

fn rig(backend: &Deferred, mode: PollMode) -> Rig {
    let driver = BlockDriver::new(
        64,
        4096,
        RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
    )
    .unwrap();
    Rig::new(backend, mode, driver)
}

/// Adds reads of one sector each, from sector 1 on. Returns their tickets.
fn read_sectors(rig: &mut Rig, count: u64) -> Vec<u16> {
    let add = |sector| rig.driver.read(sector, 512).expect("room in the queue");
    let tickets = (1..=count).map(add).collect();
    rig.publish();
    tickets
}

fn no_answer(rig: &Rig, number: u64) {
    let answer = rig.worker.mailbox.wait(number, Instant::now() + A_WHILE);
    assert!(matches!(answer, Err(Unanswered::Late)), "{answer:?}");
}

fn answer(rig: &Rig, number: u64) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    rig.worker.mailbox.wait(number, deadline).unwrap()
}

/// Waits until the worker makes no passes any more.
fn until_asleep(rig: &Rig) {
    let deadline = Instant::now() + PATIENCE;
    let passes = || rig.worker.counters.polls_idle.get();
    loop {
        let before = passes();
        std::thread::sleep(A_WHILE);
        if passes() == before {
            return;
        }
        assert!(Instant::now() < deadline, "it does not sleep");
    }
}

#[test]
fn completions_in_any_order_carry_their_own_data() {
    for (seed, mode) in (1..).zip(MODES) {
        let backend = Deferred::new(64, true);
        let mut rig = rig(&backend, mode);
        for round in 0..20 {
            let data = |sector| pattern(seed * 1000 + round * 64 + sector, 1024);
            for sector in 0..32 {
                rig.driver.write(sector * 2, &data(sector)).unwrap();
            }
            rig.publish();
            backend.await_pending(32);
            backend.finish_all(seed + round);
            for _ in 0..32 {
                assert_eq!(rig.wait().status, OK);
            }
            let read = |sector: u64| rig.driver.read(sector * 2, 1024).unwrap();
            let tickets: Vec<u16> = (0..32).map(read).collect();
            rig.publish();
            backend.await_pending(32);
            backend.finish_all(seed * 7 + round);
            for _ in 0..32 {
                let read = rig.wait();
                let sector = tickets.iter().position(|&t| t == read.ticket).unwrap();
                assert_eq!((read.status, read.written), (OK, 1025));
                assert!(read.data == data(sector as u64), "sector {sector}");
            }
        }
        let counted = rig.worker.counters.snapshot();
        assert_eq!((counted.requests, counted.errors), (20 * 64, 0));
        assert_eq!(counted.bytes_read, counted.bytes_written);
        rig.end();
    }
}

#[test]
fn each_outcome_has_its_status() {
    let backend = Deferred::new(64, true);
    let mut rig = rig(&backend, PollMode::Busy);
    for (outcome, status) in [
        (Outcome::Done, OK),
        (Outcome::Failed { errno: 5 }, IO_ERROR),
        (Outcome::Unsupported, UNSUPPORTED),
    ] {
        read_sectors(&mut rig, 1);
        backend.await_pending(1);
        backend.finish_as(0, outcome);
        assert_eq!(rig.wait().status, status);
    }
    assert_eq!(rig.worker.counters.errors.get(), 2);
    rig.end();
}

#[test]
fn a_busy_backend_gets_everything_once_and_in_order() {
    for (mode, has_fd) in MODES.into_iter().flat_map(|m| [(m, true), (m, false)]) {
        let backend = Deferred::new(4, has_fd);
        let mut rig = rig(&backend, mode);
        for _ in 0..3 {
            backend.state().accepted.clear();
            read_sectors(&mut rig, 64);
            for done in 0..64 {
                backend.await_pending(4.min(64 - done));
                backend.finish(done % backend.pending());
                assert_eq!(rig.wait().status, OK);
            }
            let in_order: Vec<u64> = (1..=64).collect();
            assert_eq!(backend.state().accepted, in_order, "{mode:?}");
        }
        assert!(backend.state().refused > 0, "it was never busy");
        assert_eq!(rig.driver.complete(), None);
        rig.end();
    }
}

/// Nothing is pending, so no completion tells when there is room again.
#[test]
fn a_request_without_room_is_tried_again_with_nothing_in_flight() {
    for (mode, has_fd) in MODES.into_iter().flat_map(|m| [(m, true), (m, false)]) {
        let backend = Deferred::new(0, has_fd);
        let mut rig = rig(&backend, mode);
        read_sectors(&mut rig, 1);
        std::thread::sleep(A_WHILE);
        backend.state().depth = 1;
        backend.await_pending(1);
        backend.finish(0);
        assert_eq!(rig.wait().status, OK, "{mode:?}");
        rig.end();
    }
}

#[test]
fn a_worker_that_waits_for_completions_sleeps_on_their_descriptor() {
    for mode in [MODES[1], MODES[2]] {
        let backend = Deferred::new(64, true);
        let mut rig = rig(&backend, mode);
        read_sectors(&mut rig, 3);
        backend.await_pending(3);
        for place in [1, 0, 0] {
            until_asleep(&rig);
            let kicks = rig.worker.counters.kicks.get();
            backend.finish(place);
            assert_eq!(rig.wait().status, OK, "{mode:?}");
            assert_eq!(rig.worker.counters.kicks.get(), kicks, "nobody kicked");
        }
        rig.end();
    }
}

#[test]
fn without_a_descriptor_for_completions_it_keeps_polling_while_it_waits() {
    for mode in [MODES[1], MODES[2]] {
        let backend = Deferred::new(64, false);
        let mut rig = rig(&backend, mode);
        read_sectors(&mut rig, 2);
        backend.await_pending(2);
        for _ in 0..2 {
            std::thread::sleep(A_WHILE);
            backend.finish(0);
            assert_eq!(rig.wait().status, OK);
        }
        // And sleeps as soon as nothing is pending.
        until_asleep(&rig);
        rig.end();
    }
}

#[test]
fn stopping_waits_for_what_is_in_flight() {
    for mode in MODES {
        let backend = Deferred::new(64, true);
        let mut rig = rig(&backend, mode);
        read_sectors(&mut rig, 3);
        backend.await_pending(3);
        let stop = rig.worker.mailbox.post(Command::Stop).unwrap();
        no_answer(&rig, stop);
        backend.finish(2);
        assert_eq!(rig.wait().status, OK, "completions go on while it drains");
        no_answer(&rig, stop);
        backend.finish_all(1);
        let Answer::Stopped(report) = answer(&rig, stop) else {
            panic!("not stopped")
        };
        assert_eq!((report.state, report.abandoned), (at(3), 0));
        assert_eq!((rig.wait().status, rig.wait().status), (OK, OK));
        assert_eq!(backend.state().abandons, 0);
        rig.end();
    }
}

#[test]
fn a_request_without_room_is_taken_again_by_the_next_to_serve_the_queue() {
    let backend = Deferred::new(2, true);
    let mut rig = rig(&backend, PollMode::Busy);
    read_sectors(&mut rig, 4);
    backend.await_pending(2);
    let stop = rig.worker.mailbox.post(Command::Stop).unwrap();
    no_answer(&rig, stop);
    backend.finish_all(1);
    let Answer::Stopped(report) = answer(&rig, stop) else {
        panic!("not stopped")
    };
    assert_eq!(report.state, at(2));
    let queue = QueueConfig {
        next_avail: 2,
        ..rig.driver.queue.config()
    };
    let table = rig.driver.memory().table();
    rig.ask(Command::Start(Box::new(QueueSetup {
        queue,
        table,
        write_through: false,
    })));
    backend.await_pending(2);
    backend.finish_all(1);
    for _ in 0..4 {
        assert_eq!(rig.wait().status, OK);
    }
    assert_eq!(backend.state().accepted, [1, 2, 3, 4]);
    rig.end();
}

#[test]
fn a_backend_that_hangs_is_abandoned_and_its_requests_fail() {
    let backend = Deferred::new(2, true);
    let mut rig = rig(&backend, PollMode::Busy);
    read_sectors(&mut rig, 3);
    backend.await_pending(2);
    let start = Instant::now();
    let report = rig.stop();
    let took = start.elapsed();
    let limit = Duration::from_millis(DRAIN_MS_MAX);
    assert!(
        (limit..limit + limit / 4).contains(&took),
        "it took {took:?}"
    );
    assert_eq!((report.state, report.abandoned), (at(2), 2));
    assert_eq!(backend.state().abandons, 1);
    assert_eq!((rig.wait().status, rig.wait().status), (IO_ERROR, IO_ERROR));
    assert_eq!(rig.driver.complete(), None, "the third was never started");
    // The storage comes back to life: a new queue is served, and nothing old turns up in it.
    rig.driver = BlockDriver::new(
        64,
        4096,
        RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
    )
    .unwrap();
    rig.start();
    let tickets = read_sectors(&mut rig, 2);
    backend.await_pending(2);
    backend.finish_all(1);
    for _ in 0..2 {
        let completed = rig.wait();
        assert!(tickets.contains(&completed.ticket) && completed.status == OK);
    }
    rig.end();
}

#[test]
fn a_head_offered_again_while_in_flight_breaks_the_queue_and_is_answered_once() {
    let backend = Deferred::new(64, true);
    let mut rig = rig(&backend, PollMode::Busy);
    read_sectors(&mut rig, 1);
    backend.await_pending(1);
    // The first chain of a fresh queue has head 0.
    rig.driver.split().make_available(0);
    rig.driver.split().make_available(0);
    rig.driver.queue.publish();
    rig.until("the fault", |rig| rig.worker.fault.load().is_some());
    let fault = rig.worker.fault.load();
    assert_eq!(fault, Some(DriverFault::HeadInFlight(0)));
    assert_eq!(rig.driver.complete(), None);
    assert_eq!(backend.state().accepted, [1], "started once");
    backend.finish(0);
    assert_eq!(rig.wait().status, OK);
    std::thread::sleep(A_WHILE);
    assert_eq!(rig.driver.complete(), None, "answered twice");
    let table = rig.driver.memory().table();
    for _ in 0..2 {
        // What comes later is answered with an error, also after a change of the memory map.
        assert_eq!(rig.read(9, 512).status, IO_ERROR);
        rig.ask(Command::Remap(table.clone()));
        assert_eq!(rig.worker.fault.load(), fault);
    }
    assert_eq!(backend.state().accepted, [1]);
    rig.end();
}

#[test]
fn remapping_waits_for_what_is_in_flight() {
    for mode in MODES {
        let backend = Deferred::new(64, true);
        let mut rig = rig(&backend, mode);
        read_sectors(&mut rig, 2);
        backend.await_pending(2);
        let table = rig.driver.memory().table();
        let again = RegionTable::new(table.regions().to_vec()).unwrap();
        let remap = Command::Remap(again.into());
        let remap = rig.worker.mailbox.post(remap).unwrap();
        backend.finish(1);
        no_answer(&rig, remap);
        backend.finish(0);
        let remapped = answer(&rig, remap);
        assert!(
            matches!(remapped, Answer::Started(Ok(state)) if Some(state) == at(2)),
            "{remapped:?} in {mode:?}"
        );
        assert_eq!((rig.wait().status, rig.wait().status), (OK, OK));
        read_sectors(&mut rig, 1);
        backend.await_pending(1);
        backend.finish(0);
        assert_eq!(rig.wait().status, OK);
        rig.end();
    }
}

#[test]
fn a_queue_whose_rings_are_unmapped_for_a_moment_goes_on_where_it_was() {
    let backend = Deferred::new(64, true);
    let mut rig = rig(&backend, PollMode::Busy);
    read_sectors(&mut rig, 2);
    backend.await_pending(2);
    let table = rig.driver.memory().table();
    let remap = Command::Remap(RegionTable::default().into());
    let remap = rig.worker.mailbox.post(remap).unwrap();
    backend.finish_all(1);
    let refused = answer(&rig, remap);
    assert!(matches!(refused, Answer::Started(Err(_))), "{refused:?}");
    assert_eq!((rig.wait().status, rig.wait().status), (OK, OK));
    read_sectors(&mut rig, 1);
    let back = rig.ask(Command::Remap(table));
    assert!(
        matches!(back, Answer::Started(Ok(state)) if Some(state) == at(2)),
        "{back:?}"
    );
    backend.await_pending(1);
    backend.finish(0);
    assert_eq!(rig.wait().status, OK);
    assert_eq!(rig.stop().state, at(3));
    rig.end();
}

/// Whoever starts a queue anew without stopping it must not pull the memory away from under the
/// storage.
#[test]
fn starting_again_waits_for_what_is_in_flight() {
    let backend = Deferred::new(64, true);
    let mut rig = rig(&backend, PollMode::Busy);
    read_sectors(&mut rig, 2);
    backend.await_pending(2);
    let queue = QueueConfig {
        next_avail: 2,
        ..rig.driver.queue.config()
    };
    let table = rig.driver.memory().table();
    let start = Command::Start(Box::new(QueueSetup {
        queue,
        table,
        write_through: false,
    }));
    let start = rig.worker.mailbox.post(start).unwrap();
    no_answer(&rig, start);
    backend.finish_all(1);
    assert!(matches!(answer(&rig, start), Answer::Started(Ok(state)) if Some(state) == at(2)));
    assert_eq!((rig.wait().status, rig.wait().status), (OK, OK));
    rig.end();
}

#[test]
fn a_storage_of_its_own_pace_loses_nothing() {
    for (mode, has_fd) in MODES.into_iter().flat_map(|m| [(m, true), (m, false)]) {
        let backend = Deferred::new(7, has_fd);
        let mut rig = rig(&backend, mode);
        let storage = backend.clone();
        let paced = std::thread::spawn(move || {
            let mut seed = 1_u64;
            let mut finished = 0;
            while finished < 1500 {
                let pending = storage.pending();
                if pending > 0 {
                    storage.finish((seed >> 7) as usize % pending);
                    finished += 1;
                }
                seed = seed.wrapping_mul(48271) % 0x7fff_ffff;
                if seed.is_multiple_of(5) {
                    std::thread::sleep(Duration::from_micros(seed % 100));
                }
            }
        });
        let (mut submitted, mut completed) = (0_u64, 0);
        while completed < 1500 {
            while submitted < 1500 && rig.driver.read(submitted % 100, 512).is_some() {
                submitted += 1;
            }
            rig.publish();
            assert_eq!(rig.wait().status, OK);
            completed += 1;
        }
        paced.join().unwrap();
        assert_eq!(rig.worker.counters.requests.get(), 1500);
        let sectors: Vec<u64> = (0..1500).map(|n| n % 100).collect();
        assert_eq!(backend.state().accepted, sectors, "in the ring's order");
        rig.end();
    }
}
