//! Many queues on one thread: that all are served, which of them may hold up which, how they sleep, come and go.

mod common;
mod deferred;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{DISK_BYTES, Rig, options, pattern, ram, thread};
use deferred::Deferred;
use pollux_dataplane::backend::{Backend, BackendQueue, DiskError, Outcome, Submission, Token};
use pollux_dataplane::blk::{Geometry, Operation};
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::limits::PASS_REQUESTS_MAX;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::{Answer, Command, PollMode, SharedThread, Unanswered};

const OK: u8 = 0;

const MODES: [PollMode; 3] = [
    PollMode::Busy,
    PollMode::Adaptive(Duration::from_micros(50)),
    PollMode::Event,
];

fn driver() -> BlockDriver {
    BlockDriver::new(64, 4096, RingFeatures::EVENT_IDX).unwrap()
}

fn shared(mode: PollMode) -> SharedThread {
    SharedThread::spawn(thread(mode)).unwrap()
}

fn until_all_asleep(rigs: &[Rig]) {
    for rig in rigs {
        rig.until("sleep", |rig| rig.worker.asleep.get());
    }
}

#[test]
fn every_queue_is_served_with_its_own_data_in_every_mode() {
    for mode in MODES {
        let thread = shared(mode);
        let mut rigs: Vec<Rig> = (0..8).map(|_| Rig::on(&thread, &ram(), driver())).collect();
        assert_eq!(thread.queues(), 8);
        for round in 0..50 {
            for (index, rig) in (0..).zip(&mut rigs) {
                let data = pattern(round * 8 + index, 4096);
                rig.driver.write(round * 8, &data).unwrap();
                rig.publish();
            }
            for rig in &mut rigs {
                assert_eq!(rig.wait().status, OK);
            }
            for (index, rig) in (0..).zip(&mut rigs) {
                let read = rig.read(round * 8, 4096);
                assert!(read.data == pattern(round * 8 + index, 4096), "{mode:?}");
            }
        }
        for rig in &rigs {
            assert_eq!(rig.worker.counters.requests.get(), 100);
        }
        rigs.into_iter().for_each(Rig::end);
        assert_eq!(thread.queues(), 0);
    }
}

#[test]
fn a_kick_wakes_the_thread_and_leaves_the_other_queues_armed() {
    for mode in &MODES[1..] {
        let thread = shared(*mode);
        let mut rigs: Vec<Rig> = (0..4).map(|_| Rig::on(&thread, &ram(), driver())).collect();
        let rounds = 20;
        for round in 0..rounds {
            until_all_asleep(&rigs);
            assert_eq!(rigs[2].read(round, 512).status, OK);
        }
        until_all_asleep(&rigs);
        let sleeps = |rig: &Rig| rig.worker.counters.sleeps.get();
        let kicks = |rig: &Rig| rig.worker.counters.kicks.get();
        assert!(kicks(&rigs[2]) >= rounds && sleeps(&rigs[2]) > rounds);
        // Those that had nothing to do were armed when they were started, and when the thread learned of others, at most.
        for quiet in [0, 1, 3] {
            assert_eq!(kicks(&rigs[quiet]), 0, "{mode:?}");
            assert!(sleeps(&rigs[quiet]) <= 5, "{}", sleeps(&rigs[quiet]));
        }
        // Asked for something, any of them still is there.
        for rig in &mut rigs {
            assert_eq!(rig.read(0, 512).status, OK);
        }
        rigs.into_iter().for_each(Rig::end);
    }
}

#[test]
fn a_worker_tells_of_its_own_waking_and_of_no_other() {
    let thread = shared(PollMode::Event);
    let own = Rig::new(&ram(), PollMode::Event, driver());
    let [one, other] = [(); 2].map(|()| Rig::on(&thread, &ram(), driver()));
    let mut rigs = [own, one, other];
    until_all_asleep(&rigs);
    for woken in 0..rigs.len() {
        assert!(rigs.iter().all(|rig| rig.worker.asleep.watch()));
        assert_eq!(rigs[woken].read(0, 512).status, OK);
        until_all_asleep(&rigs);
        for (index, rig) in rigs.iter().enumerate() {
            assert_eq!(rig.woken.read().is_ok(), index == woken, "{index} {woken}");
        }
    }
    rigs.into_iter().for_each(Rig::end);
}

#[test]
fn a_thread_sleeps_on_completions_and_not_while_one_has_to_be_polled_for() {
    let thread = shared(PollMode::Event);
    let [signalled, polled] = [true, false].map(|has_fd| Deferred::new(16, has_fd));
    let mut rig = Rig::on(&thread, &signalled, driver());
    let polls = |rig: &Rig| rig.worker.counters.polls_idle.get();
    for _ in 0..10 {
        rig.driver.read(0, 512).unwrap();
        rig.publish();
        signalled.await_pending(1);
        std::thread::sleep(Duration::from_millis(5));
        let before = polls(&rig);
        std::thread::sleep(Duration::from_millis(20));
        assert!(polls(&rig) <= before + 1, "it polls");
        assert!(!rig.worker.asleep.get(), "it has a request to watch");
        signalled.finish(0);
        assert_eq!(rig.wait().status, OK);
        until_all_asleep(std::slice::from_ref(&rig));
    }
    let mut other = Rig::on(&thread, &polled, driver());
    other.driver.read(0, 512).unwrap();
    other.publish();
    polled.await_pending(1);
    let before = polls(&other);
    other.until("polls", |other| polls(other) > before + 100);
    polled.finish(0);
    assert_eq!(other.wait().status, OK);
    rig.end();
    other.end();
}

/// A disk that waits for the test before it does anything, and notes which disk was asked.
#[derive(Clone)]
struct Noted {
    name: &'static str,
    geometry: Geometry,
    gate: Arc<Mutex<()>>,
    notes: Arc<Mutex<Vec<&'static str>>>,
}

impl Backend for Noted {
    type Queue = Self;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> io::Result<Self> {
        Ok(self.clone())
    }

    fn resized(&self, _: u64) -> Result<Geometry, DiskError> {
        Ok(self.geometry.clone())
    }

    fn resize(&mut self, _: Geometry) -> Result<(), DiskError> {
        Ok(())
    }
}

impl BackendQueue for Noted {
    fn submit(&mut self, _: Token, _: Operation<'_, '_>) -> Submission {
        drop(self.gate.lock().unwrap());
        self.notes.lock().unwrap().push(self.name);
        Submission::Complete(Outcome::Done)
    }
}

#[test]
fn a_flooded_queue_leaves_the_others_their_turn() {
    let thread = shared(PollMode::Busy);
    let disk = |name| Noted {
        name,
        geometry: options().geometry().unwrap(),
        gate: Arc::default(),
        notes: Arc::default(),
    };
    let flooded = disk("flooded");
    let quiet = Noted {
        name: "quiet",
        ..flooded.clone()
    };
    let driver_of_many = BlockDriver::new(1024, 512, RingFeatures::EVENT_IDX).unwrap();
    let mut deep = Rig::on(&thread, &flooded, driver_of_many);
    let mut rigs: Vec<Rig> = (0..3).map(|_| Rig::on(&thread, &quiet, driver())).collect();
    let closed = flooded.gate.lock().unwrap();
    let mut count = 0;
    while deep.driver.read(0, 512).is_some() {
        count += 1;
    }
    assert!(count > 10 * PASS_REQUESTS_MAX, "{count}");
    deep.publish();
    // The thread is in the first request of the deep one by then, or will be before it comes to the others.
    for rig in &mut rigs {
        rig.driver.read(0, 512).unwrap();
        rig.publish();
    }
    drop(closed);
    for rig in &mut rigs {
        assert_eq!(rig.wait().status, OK);
    }
    (0..count).for_each(|_| assert_eq!(deep.wait().status, OK));
    let notes = flooded.notes.lock().unwrap().clone();
    let last = notes.iter().rposition(|name| *name == "quiet").unwrap();
    // A pass of the deep one before each of theirs, and one that was under way.
    assert!(last < 2 * PASS_REQUESTS_MAX + 3, "{last} of {notes:?}");
    deep.end();
    rigs.into_iter().for_each(Rig::end);
}

#[test]
fn queues_come_and_go_while_another_is_under_load() {
    let thread = shared(PollMode::Adaptive(Duration::from_micros(50)));
    let disk = ram();
    let mut busy = Rig::on(&thread, &disk, driver());
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            for round in 0..100 {
                let mut rig = Rig::on(&thread, &ram(), driver());
                let data = pattern(round, 2048);
                assert_eq!(rig.write(3, &data), OK);
                assert!(rig.read(3, 2048).data == data);
                if round % 2 == 0 {
                    // It leaves with requests that nobody waits for.
                    while rig.driver.read(0, 512).is_some() {}
                    rig.publish();
                }
                rig.end();
            }
        });
        let mut round = 0;
        while !others.is_finished() {
            let data = pattern(round, 4096);
            let sector = round % (DISK_BYTES / 512 - 8);
            assert_eq!(busy.write(sector, &data), OK);
            assert!(busy.read(sector, 4096).data == data, "round {round}");
            round += 1;
        }
        others.join().unwrap();
    });
    assert_eq!(thread.queues(), 1);
    busy.end();
}

#[test]
fn a_queue_that_is_stopped_waits_for_its_backend_and_the_others_do_not() {
    let thread = shared(PollMode::Event);
    let slow = Deferred::new(16, true);
    let mut held = Rig::on(&thread, &slow, driver());
    let mut other = Rig::on(&thread, &ram(), driver());
    held.driver.read(0, 512).unwrap();
    held.publish();
    slow.await_pending(1);
    let number = held.worker.mailbox.post(Command::Stop).unwrap();
    for round in 0..50 {
        assert_eq!(other.read(round, 512).status, OK);
    }
    let answer = held.worker.mailbox.wait(number, Instant::now());
    assert!(matches!(answer, Err(Unanswered::Late)), "{answer:?}");
    slow.finish(0);
    let until = Instant::now() + common::PATIENCE;
    match held.worker.mailbox.wait(number, until).unwrap() {
        Answer::Stopped(report) => assert_eq!((report.state, report.abandoned), (common::at(1), 0)),
        other => panic!("{other:?}"),
    }
    assert_eq!(held.wait().status, OK);
    // What takes too long is not waited for: it goes on as it was.
    held.driver = driver();
    held.start();
    held.driver.read(0, 512).unwrap();
    held.publish();
    slow.await_pending(1);
    assert!(matches!(held.ask(Command::Leave), Answer::Left(false)));
    slow.finish(0);
    assert_eq!(held.wait().status, OK);
    held.end();
    other.end();
}

#[test]
fn a_thread_outlives_its_handle_until_its_last_queue_goes() {
    let count = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks
            .filter_map(|task| name(task).ok())
            .filter(|name| name.trim() == "outliving")
            .count()
    };
    let thread = SharedThread::spawn(pollux_dataplane::worker::ThreadConfig {
        name: "outliving".into(),
        ..thread(PollMode::Event)
    })
    .unwrap();
    let mut rig = Rig::on(&thread, &ram(), driver());
    drop(thread);
    assert_eq!(rig.read(0, 512).status, OK);
    assert_eq!(count(), 1);
    rig.end();
    let deadline = Instant::now() + common::PATIENCE;
    while count() > 0 {
        assert!(Instant::now() < deadline, "the thread goes on");
        std::thread::yield_now();
    }
}
