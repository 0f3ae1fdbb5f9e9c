//! A worker over storage made slow: when requests end, what is done by then, and what becomes of those that never end.

mod common;
mod deferred;

use std::time::{Duration, Instant};

use common::{PATIENCE, Rig, options, pattern, ram};
use deferred::Deferred;
use pollux_dataplane::backend::{
    Backend, BackendQueue, Delay, Latencies, Latency, Null, Submission,
};
use pollux_dataplane::blk::{Operation, SectorRange};
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::limits::SEGMENTS_MAX;
use pollux_dataplane::mem::Segment;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::{Answer, Command, PollMode};
use vm_memory::MmapRegion;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;

const FLUSH: u32 = 4;
const WRITE_ZEROES: u32 = 13;

const MODES: [PollMode; 3] = [
    PollMode::Busy,
    PollMode::Adaptive(Duration::from_micros(50)),
    PollMode::Event,
];

fn latencies(read: Latency, write: Latency) -> Latencies {
    Latencies {
        read,
        write,
        seed: None,
    }
}

fn ms(ms: u64) -> Latency {
    Latency::For(Duration::from_millis(ms))
}

fn rig<B: Backend>(inner: B, latencies: Latencies, mode: PollMode) -> Rig {
    let features = RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX;
    let driver = BlockDriver::new(64, 4096, features).unwrap();
    Rig::new(&Delay::new(inner, latencies), mode, driver)
}

#[test]
fn requests_take_their_time_side_by_side_and_carry_their_own_data() {
    for mode in MODES {
        let mut rig = rig(ram(), latencies(ms(20), ms(20)), mode);
        let data = |sector| pattern(sector, 1024);
        let begun = Instant::now();
        for sector in 0..32 {
            rig.driver.write(sector * 2, &data(sector)).unwrap();
        }
        rig.publish();
        for _ in 0..32 {
            assert_eq!(rig.wait().status, OK);
            assert!(begun.elapsed() >= Duration::from_millis(20), "{mode:?}");
        }
        let read = |sector: u64| rig.driver.read(sector * 2, 1024).unwrap();
        let tickets: Vec<u16> = (0..32).map(read).collect();
        rig.publish();
        for _ in 0..32 {
            let read = rig.wait();
            let sector = tickets.iter().position(|&t| t == read.ticket).unwrap();
            assert!(read.data == data(sector as u64), "sector {sector}");
        }
        // One after the other they would have taken more than a second.
        assert!(begun.elapsed() < Duration::from_millis(64 * 20), "{mode:?}");
        assert!(rig.worker.counters.errors.get() == 0);
        rig.end();
    }
}

#[test]
fn a_write_is_nowhere_before_its_time_is_over() {
    let mut rig = rig(ram(), latencies(ms(0), ms(200)), PollMode::Busy);
    let data = pattern(1, 512);
    let write = rig.driver.write(0, &data).unwrap();
    rig.publish();
    let before = rig.read(0, 512);
    assert_ne!(before.ticket, write);
    assert!(before.data.iter().all(|byte| *byte == 0), "it is there");
    assert_eq!(rig.wait().ticket, write);
    assert!(rig.read(0, 512).data == data);
    rig.end();
}

#[test]
fn what_has_no_data_is_held_too() {
    let mut rig = rig(ram(), latencies(ms(0), ms(20)), PollMode::Busy);
    assert_eq!(rig.write(8, &[7; 1024]), OK);
    let begun = Instant::now();
    assert_eq!(rig.request(FLUSH, 0, &[], 0).status, OK);
    let mut range = 8_u64.to_le_bytes().to_vec();
    range.extend(1_u32.to_le_bytes());
    range.extend(0_u32.to_le_bytes());
    assert_eq!(rig.request(WRITE_ZEROES, 0, &range, 0).status, OK);
    assert!(begun.elapsed() >= Duration::from_millis(40));
    let read = rig.read(8, 1024);
    assert!(read.data[..512].iter().all(|byte| *byte == 0));
    assert!(read.data[512..].iter().all(|byte| *byte == 7));
    rig.end();
}

#[test]
fn storage_that_is_asynchronous_and_busy_gets_everything_in_order() {
    for (mode, has_fd) in MODES.into_iter().flat_map(|m| [(m, true), (m, false)]) {
        let inner = Deferred::new(4, has_fd);
        let mut rig = rig(inner.clone(), latencies(ms(5), ms(5)), mode);
        let add = |sector| rig.driver.read(sector, 512).expect("room in the queue");
        let _: Vec<u16> = (1..=32).map(add).collect();
        rig.publish();
        for done in 0..32 {
            inner.await_pending(4.min(32 - done));
            inner.finish(0);
            assert_eq!(rig.wait().status, OK, "{mode:?}");
        }
        let in_order: Vec<u64> = (1..=32).collect();
        assert_eq!(inner.state().accepted, in_order, "{mode:?}");
        rig.end();
    }
}

fn oldest(rig: &Rig) -> u32 {
    match rig.ask(Command::Beat) {
        Answer::Alive { oldest_beats } => oldest_beats,
        other => panic!("{other:?}"),
    }
}

fn abandon(rig: &Rig, beats: u32, refuse: bool) -> usize {
    match rig.ask(Command::Abandon { beats, refuse }) {
        Answer::Abandoned(count) => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_never_ends_is_given_up_once_it_is_old_enough() {
    for mode in MODES {
        let mut rig = rig(ram(), latencies(ms(0), Latency::Forever), mode);
        assert_eq!(oldest(&rig), 0);
        let mut write = |sector| {
            rig.driver.write(sector, &[9; 512]).unwrap();
            rig.publish();
            // The write was taken before the read that came after it.
            assert_eq!(rig.read(sector, 512).status, OK);
            oldest(&rig)
        };
        assert_eq!([write(0), write(1), write(2)], [1, 2, 3]);
        assert_eq!(abandon(&rig, 4, true), 0);
        assert_eq!(abandon(&rig, 3, false), 3);
        for _ in 0..3 {
            assert_eq!(rig.wait().status, IO_ERROR);
        }
        assert_eq!((oldest(&rig), abandon(&rig, 1, true)), (0, 0));
        // It goes on, and holds no grudge.
        let read = rig.read(0, 512);
        assert_eq!(read.status, OK);
        assert!(
            read.data.iter().all(|byte| *byte == 0),
            "it was carried out"
        );
        rig.driver.write(0, &[9; 512]).unwrap();
        rig.publish();
        assert_eq!(rig.read(0, 512).status, OK);
        assert_eq!(oldest(&rig), 1);
        assert_eq!(abandon(&rig, 1, true), 1);
        assert_eq!(rig.wait().status, IO_ERROR);
        assert_eq!(rig.read(0, 512).status, IO_ERROR, "{mode:?}");
        rig.stop();
        rig.end();
    }
}

#[test]
fn a_worker_with_nothing_in_flight_sleeps_and_says_so() {
    let mut rig = rig(ram(), latencies(ms(0), ms(0)), PollMode::Event);
    assert_eq!(rig.read(0, 512).status, OK);
    let asleep = |rig: &Rig| rig.worker.asleep.get();
    rig.until("sleep", asleep);
    rig.end();
    let mut rig = self::rig(ram(), latencies(ms(0), Latency::Forever), PollMode::Event);
    rig.driver.write(0, &[0; 512]).unwrap();
    rig.publish();
    assert_eq!(rig.read(0, 512).status, OK);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!asleep(&rig), "nothing wakes it");
    assert_eq!(abandon(&rig, 0, false), 1);
    rig.end();
}

#[test]
fn with_no_room_for_more_it_is_busy_until_something_ends() {
    let null = Null::new(&options(), true).unwrap();
    let delay = Delay::new(null, latencies(ms(1), Latency::Forever));
    let mut queue = delay.open_queue().unwrap();
    let region = MmapRegion::<()>::new(512 * SEGMENTS_MAX).unwrap();
    let segment = |at| Segment::of_region(&region, 512 * at, 512).unwrap();
    let into: Vec<_> = (0..SEGMENTS_MAX).map(segment).collect();
    let count = SEGMENTS_MAX as u64;
    let range = SectorRange { first: 0, count };
    let into = into.as_slice();
    let read = || Operation::Read { range, into };
    let accepted = (0..).take_while(|token| queue.submit(*token, read()) == Submission::Pending);
    let accepted = accepted.count() as u16;
    assert!(accepted >= 16, "{accepted}");
    assert_eq!(queue.submit(accepted, read()), Submission::Busy);
    let deadline = Instant::now() + PATIENCE;
    for token in 0..accepted {
        let done = loop {
            assert!(Instant::now() < deadline);
            if let Some((done, _)) = queue.complete() {
                break done;
            }
        };
        assert_eq!(done, token);
    }
    assert_eq!(queue.submit(accepted, read()), Submission::Pending);
    queue.abandon();
    assert_eq!((queue.in_flight(), queue.complete()), (0, None));
}
