//! Workers that answer, and one that does not.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use pollux_dataplane::backend::{
    Backend, BackendQueue, DiskOptions, Null, Outcome, Submission, Token,
};
use pollux_dataplane::blk::Operation;
use pollux_dataplane::limits::STUCK_MS;
use pollux_dataplane::worker::{
    Home, Notifier, PollMode, ServiceConfig, ThreadConfig, WorkerConfig, spawn,
};

use super::*;
use crate::device::QueueState;

/// A backend that keeps its worker while `held` is locked.
struct Holding(Arc<Mutex<()>>);

impl BackendQueue for Holding {
    fn submit(&mut self, _: Token, _: Operation<'_, '_>) -> Submission {
        Submission::Complete(Outcome::Done)
    }

    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        drop(self.0.lock().unwrap());
        None
    }
}

struct Silent;

impl Notifier for Silent {
    fn interrupt(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn listen(&mut self, _: Option<BorrowedFd<'_>>) -> io::Result<()> {
        Ok(())
    }
}

fn geometry(size_bytes: u64) -> Geometry {
    let options = DiskOptions {
        size_bytes,
        ..DiskOptions::default()
    };
    Null::new(&options, true).unwrap().geometry().clone()
}

/// Returns two workers, the second of which goes on only while `held` is free.
fn workers(held: &Arc<Mutex<()>>) -> Workers {
    let mut workers = Workers::new("d0".into());
    for held in [&Arc::default(), held] {
        let config = WorkerConfig {
            home: Home::Own(ThreadConfig {
                name: "test".into(),
                cpu: None,
                mode: PollMode::Event,
                confinement: None,
            }),
            service: ServiceConfig {
                interrupt_hold: Duration::ZERO,
                latency_sample: NonZeroU32::MIN,
                geometry: geometry(1 << 20),
                in_flight: None,
                woken: None,
            },
        };
        let worker = spawn(config, Holding(Arc::clone(held)), Silent).unwrap();
        workers.push(worker, 0);
    }
    workers
}

#[test]
fn workers_that_serve_nothing_take_on_another_size() {
    let mut workers = workers(&Arc::default());
    assert_eq!(workers.all_listen(), Ok(()));
    assert_eq!(workers.resize(&geometry(2 << 20)), Ok(()));
    assert!(workers.end());
}

#[test]
fn a_worker_that_is_stuck_is_named_and_asked_again_when_it_comes_back() {
    let held = Arc::default();
    let lock = Mutex::lock(&held).unwrap();
    let mut workers = workers(&held);
    let mut states = || {
        let states = workers.stats().into_iter().map(|queue| queue.state);
        states.collect::<Vec<_>>()
    };
    let end = Instant::now() + 2 * Duration::from_millis(STUCK_MS);
    while states() != [QueueState::Unused, QueueState::Stuck] {
        assert!(Instant::now() < end, "nobody sees that it is stuck");
    }
    assert_eq!(workers.all_listen(), Err(1));
    // The other one answers, and owes nothing.
    assert_eq!(workers.resize(&geometry(2 << 20)), Err(1));
    drop(lock);
    let end = Instant::now() + Duration::from_millis(WORKER_ANSWER_MS_MAX);
    while workers.all_listen().is_err() {
        assert!(Instant::now() < end, "it does not come back");
    }
    assert_eq!(workers.resize(&geometry(2 << 20)), Ok(()));
    assert!(workers.end());
}
