//! The thread itself: pinned, it polls its queue and listens to control, until it is told to end.

use std::hint::black_box;
use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use core_affinity::CoreId;
use crossbeam::atomic::AtomicCell;
use nix::sys::eventfd::{EfdFlags, EventFd};
use quanta::Clock;

use super::rest::Rest;
use super::{
    Answer, Command, Confinement, Idle, IdlePolicy, Interrupt, Mailbox, Moderation, Notifier,
    PollMode, Poller, Progress, Records, WorkerEnd,
};
use crate::backend::BackendQueue;
use crate::blk::Geometry;
use crate::inflight::QueueLog;
use crate::limits::DRAIN_MS_MAX;
use crate::ring::DriverFault;
use crate::stats::{LatencyRecorder, QueueCounters};

mod hang;
mod interrupt;
mod serving;
mod sleep;

/// Stack that a worker uses, and some: the segments of the longest chain are most of it.
const STACK_BYTES: usize = 256 << 10;

/// How long a queue that is to stop is drained.
const DRAIN: Duration = Duration::from_millis(DRAIN_MS_MAX);

/// How to run a worker.
#[derive(Debug)]
pub struct WorkerConfig {
    /// Name of the thread, at most 15 bytes.
    pub name: String,
    /// CPU to stay on; the scheduler's choice without one.
    pub cpu: Option<usize>,
    /// How to wait.
    pub mode: PollMode,
    /// How long an interrupt may be held while more completions are on their way; zero for not at all.
    pub interrupt_hold: Duration,
    /// One pass in this many is timed for the latency histogram.
    pub latency_sample: NonZeroU32,
    /// The disk, as the backend knows it.
    pub geometry: Geometry,
    /// Where requests in flight are written down, should this process be killed.
    pub in_flight: Option<QueueLog>,
    /// What the thread gives up before it serves.
    pub confinement: Option<Confinement>,
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
    pub asleep: Arc<AtomicBool>,
    /// The thread.
    pub thread: JoinHandle<()>,
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
/// [`SpawnError`] when the thread cannot be had or pinned; nothing runs then.
pub fn spawn<Q, N>(config: WorkerConfig, backend: Q, notifier: N) -> Result<Worker, SpawnError>
where
    Q: BackendQueue + 'static,
    N: Notifier + 'static,
{
    let (mailbox, end) = Mailbox::new().map_err(SpawnError::EventFd)?;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let kick = EventFd::from_flags(flags).map_err(SpawnError::EventFd)?;
    let counters = Arc::new(QueueCounters::default());
    let fault = Arc::new(AtomicCell::new(None));
    let depth = Arc::new(AtomicCell::new(1));
    let (shared_counters, shared_fault) = (Arc::clone(&counters), Arc::clone(&fault));
    let shared_depth = Arc::clone(&depth);
    let asleep = Arc::new(AtomicBool::new(false));
    let shared_asleep = Arc::clone(&asleep);
    let (ready, is_ready) = sync_channel(1);
    let WorkerConfig {
        name,
        cpu,
        mode,
        interrupt_hold,
        latency_sample,
        geometry,
        in_flight,
        confinement,
    } = config;
    let clock = Clock::new();
    // A worker that sleeps whenever it can does not spin for a held interrupt either.
    let hold = if mode == PollMode::Event {
        Duration::ZERO
    } else {
        interrupt_hold
    };
    // A poller watches the thread that it is on, so all of this is put together there.
    let body = move || {
        if prepare(cpu, confinement, &ready) {
            Service {
                end,
                kick,
                listening: false,
                backend,
                notifier,
                geometry,
                idle: IdlePolicy::new(mode),
                moderation: Moderation::new(hold),
                counters: shared_counters,
                latency: LatencyRecorder::new(clock.clone(), latency_sample),
                clock,
                fault: shared_fault,
                fault_shown: false,
                depth: shared_depth,
                asleep: shared_asleep,
                poller: None,
                resting: None,
                in_flight,
            }
            .run();
        }
    };
    let thread = Builder::new()
        .name(name)
        .spawn(body)
        .map_err(SpawnError::Thread)?;
    let died = |_| Err(SpawnError::Thread(io::Error::other("it died at its start")));
    is_ready.recv().unwrap_or_else(died)?;
    Ok(Worker {
        mailbox,
        counters,
        fault,
        depth,
        asleep,
        thread,
    })
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

/// Everything that one worker owns.
struct Service<Q, N> {
    end: WorkerEnd,
    kick: EventFd,
    /// Whether the driver's kicks reach `kick`.
    listening: bool,
    backend: Q,
    notifier: N,
    geometry: Geometry,
    idle: IdlePolicy,
    moderation: Moderation,
    counters: Arc<QueueCounters>,
    latency: LatencyRecorder,
    clock: Clock,
    fault: Arc<AtomicCell<Option<DriverFault>>>,
    fault_shown: bool,
    depth: Arc<AtomicCell<u16>>,
    asleep: Arc<AtomicBool>,
    poller: Option<Poller>,
    /// The queue, while the driver's memory does not hold it.
    resting: Option<Rest>,
    in_flight: Option<QueueLog>,
}

impl<Q: BackendQueue, N: Notifier> Service<Q, N> {
    fn run(mut self) {
        loop {
            while let Some((number, command)) = self.end.take() {
                if !self.obey(number, command) {
                    return;
                }
            }
            if !self.pass() {
                self.sleep();
            }
        }
    }

    /// Does one pass. Returns whether to look again at once.
    #[inline]
    fn pass(&mut self) -> bool {
        let Some(poller) = &mut self.poller else {
            return false;
        };
        let mut records = Records {
            counters: &self.counters,
            latency: &mut self.latency,
            in_flight: self.in_flight.as_mut(),
        };
        let progress = poller.poll_once(&mut self.backend, &self.geometry, &mut records);
        match progress {
            Progress::Busy(_) => {
                self.counters.polls_busy.add(1);
                self.show_counts();
                self.idle.busy();
                self.moderate();
                self.show_fault();
                true
            }
            Progress::Idle => {
                self.counters.polls_idle.add(1);
                let stopped = !poller.is_running();
                let done_for = stopped && poller.in_flight() == 0;
                if stopped {
                    self.show_fault();
                }
                if self.moderation.is_holding() {
                    if self.moderation.waited(|| self.clock.now()) == Interrupt::Raise {
                        self.interrupt();
                    }
                    // The driver is about to be interrupted, so this queue is not idle.
                    return true;
                }
                if done_for {
                    return false;
                }
                // No spin-loop hint: on a CPU of its own it saves nothing, and it makes the next look late.
                self.idle.idle(|| self.clock.now()) == Idle::Spin || !self.may_sleep()
            }
        }
    }

    #[inline]
    fn show_counts(&self) {
        let counts = self.backend.counts();
        self.counters.backend_system_calls.set(counts.system_calls);
        self.counters.backend_registered.set(counts.registered);
        self.counters.backend_copied.set(counts.copied);
    }

    /// Returns whether all that can happen to the queue wakes this thread.
    fn may_sleep(&self) -> bool {
        let signalled = self.backend.completion_fd().is_some();
        self.poller
            .as_ref()
            .is_none_or(|it| it.may_sleep(signalled))
    }

    #[inline]
    fn show_fault(&mut self) {
        // Only the first fault of a queue is kept, so showing it once is enough.
        if !self.fault_shown
            && let Some(fault) = self.poller.as_ref().and_then(Poller::fault)
        {
            self.fault_shown = true;
            self.fault.store(Some(fault));
        }
    }

    /// Carries a command out. Returns false when the thread is to end.
    #[cold]
    fn obey(&mut self, number: u64, command: Command) -> bool {
        let answer = match command {
            Command::Start(setup) => Answer::Started(self.start(&setup)),
            Command::TakeOver(setup) => Answer::Started(self.take_over(&setup)),
            Command::Recover(setup) => {
                let taken_over = self.take_over(&setup);
                self.pause();
                Answer::Started(taken_over)
            }
            Command::Stop => Answer::Stopped(self.stop()),
            Command::Leave => Answer::Left(self.leave()),
            Command::Pause => Answer::Stopped(self.pause()),
            Command::Remap(table) => Answer::Started(self.remap(table)),
            Command::Resize(geometry) => {
                self.resize(geometry);
                Answer::Resized
            }
            Command::Log(log) => {
                self.stop();
                self.in_flight = log.map(|log| *log);
                Answer::Logging
            }
            Command::Beat => self.beat(),
            Command::Abandon { beats, refuse } => Answer::Abandoned(self.abandon(beats, refuse)),
            Command::Latency(empty) => Answer::Latency {
                histogram: self.latency.swap(empty),
                in_flight: self.poller.as_ref().map_or(0, Poller::in_flight),
            },
            Command::Exit => {
                self.stop();
                return false;
            }
        };
        self.end.answer(number, answer);
        true
    }
}
