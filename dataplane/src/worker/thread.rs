//! Threads that serve, pinned; a worker on one of its own.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use core_affinity::CoreId;
use crossbeam::atomic::AtomicCell;
use quanta::Clock;

use super::service::{self, ServiceConfig};
use super::shared::{SharedThread, Stay};
use super::{Asleep, Confinement, Mailbox, Notifier, PollMode};
use crate::backend::BackendQueue;
use crate::ring::DriverFault;
use crate::stats::QueueCounters;

/// Stack that a worker uses, and some: the segments of the longest chain are most of it.
const STACK_BYTES: usize = 256 << 10;

/// How to run a thread.
#[derive(Debug)]
pub struct ThreadConfig {
    /// Its name, at most 15 bytes.
    pub name: String,
    /// CPU to stay on; the scheduler's choice without one.
    pub cpu: Option<usize>,
    /// How to wait.
    pub mode: PollMode,
    /// What it gives up before it serves.
    pub confinement: Option<Confinement>,
}

/// How to run a worker.
#[derive(Debug)]
pub struct WorkerConfig<'threads> {
    /// Where.
    pub home: Home<'threads>,
    /// How its queue is served.
    pub service: ServiceConfig,
}

/// Where a worker is to run.
#[derive(Debug)]
pub enum Home<'threads> {
    /// On a thread of its own.
    Own(ThreadConfig),
    /// On one that it shares, which has a mode of its own.
    Shared(&'threads SharedThread),
}

/// Why a worker could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The backend's queue could not be had.
    #[error("cannot open a queue into the backend: {0}")]
    Queue(#[source] io::Error),
    /// The thread could not be had.
    #[error("cannot start a worker thread: {0}")]
    Thread(#[source] io::Error),
    /// An eventfd could not be had.
    #[error("cannot make an eventfd: {0}; raise the limit of open files")]
    EventFd(#[source] nix::Error),
    /// The CPU is offline or forbidden.
    #[error("cannot pin a worker to CPU {0}: it is offline or outside of this process's CPU set")]
    Pin(usize),
    /// It could not give up what it does not need.
    #[error("cannot confine a worker thread: {0}; serve with --sandbox=off to do without")]
    Confine(#[source] io::Error),
}

/// A running worker, as control sees it.
#[derive(Debug)]
pub struct Worker {
    /// How to talk to it.
    pub mailbox: Mailbox,
    /// What it counts.
    pub counters: Arc<QueueCounters>,
    /// Why its queue is broken, if it is.
    pub fault: Arc<AtomicCell<Option<DriverFault>>>,
    /// How many requests the driver keeps outstanding, as far as interrupts tell.
    pub depth: Arc<AtomicCell<u16>>,
    /// Whether it sleeps with nothing in flight: then it needs no watching.
    pub asleep: Asleep,
    /// Where it runs.
    pub host: Host,
}

/// Where a worker runs.
#[derive(Debug)]
pub enum Host {
    /// On a thread of its own.
    Thread(JoinHandle<()>),
    /// On a thread that it shares.
    Shared(Arc<Stay>),
}

impl Host {
    /// Returns whether it has ended.
    pub fn is_finished(&self) -> bool {
        match self {
            Self::Thread(thread) => thread.is_finished(),
            Self::Shared(stay) => stay.is_over(),
        }
    }

    /// Waits for its end. Returns whether it ended well.
    pub fn join(self) -> bool {
        match self {
            Self::Thread(thread) => thread.join().is_ok(),
            Self::Shared(stay) => {
                while !stay.is_over() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                stay.is_sound()
            }
        }
    }
}

/// Calibrates the clock that workers share, once a process. It takes up to 0.2 s, which the first worker's start takes
/// otherwise.
pub fn calibrate_clock() {
    let _ = Clock::new();
}

/// Starts a worker, which waits for a queue to serve.
///
/// # Errors
///
/// [`SpawnError`] when it cannot be had, or its thread not be pinned; nothing runs then.
pub fn spawn<Q, N>(config: WorkerConfig<'_>, backend: Q, notifier: N) -> Result<Worker, SpawnError>
where
    Q: BackendQueue + 'static,
    N: Notifier + 'static,
{
    let WorkerConfig { home, service } = config;
    let thread = match home {
        Home::Own(thread) => thread,
        Home::Shared(thread) => return thread.add(service, backend, notifier),
    };
    let (mailbox, end) = Mailbox::new().map_err(SpawnError::EventFd)?;
    let (shown, make) = service::prepare(service, thread.mode, true, end, backend, notifier)
        .map_err(SpawnError::EventFd)?;
    let asleep = Asleep {
        thread: Arc::new(AtomicBool::new(true)),
        queue: shown.asleep,
    };
    Ok(Worker {
        mailbox,
        counters: shown.counters,
        fault: shown.fault,
        depth: shown.depth,
        asleep,
        host: Host::Thread(start(thread, move || make().run())?),
    })
}

/// Starts a thread that does `work` once it is fit to.
pub(super) fn start(
    config: ThreadConfig,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, SpawnError> {
    let ThreadConfig {
        name,
        cpu,
        confinement,
        ..
    } = config;
    let (ready, is_ready) = sync_channel(1);
    let body = move || {
        if prepare(cpu, confinement, &ready) {
            work();
        }
    };
    let thread = Builder::new()
        .name(name)
        .spawn(body)
        .map_err(SpawnError::Thread)?;
    let died = |_| Err(SpawnError::Thread(io::Error::other("it died at its start")));
    is_ready.recv().unwrap_or_else(died)?;
    Ok(thread)
}

/// Makes the calling thread fit to serve, and reports whether that worked. Returns the same.
fn prepare(
    cpu: Option<usize>,
    confinement: Option<Confinement>,
    ready: &SyncSender<Result<(), SpawnError>>,
) -> bool {
    let pinned = cpu.map_or(Ok(()), pin);
    touch_stack();
    let prepared = pinned.and_then(|()| {
        let confined = confinement.map_or(Ok(()), Confinement::apply);
        confined.map_err(SpawnError::Confine)
    });
    let is_fit = prepared.is_ok();
    // Control waits for this, so the channel is open.
    let _ = ready.send(prepared);
    is_fit
}

/// Has the pages of the stack exist that requests are served on, so that none comes into being under one.
#[inline(never)]
fn touch_stack() {
    black_box([0_u8; STACK_BYTES]);
}

fn pin(id: usize) -> Result<(), SpawnError> {
    match core_affinity::set_for_current(CoreId { id }) {
        true => Ok(()),
        false => Err(SpawnError::Pin(id)),
    }
}
