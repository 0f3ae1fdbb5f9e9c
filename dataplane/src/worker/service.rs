//! What serves one queue, on whatever thread: its passes, and the commands that it obeys.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use nix::sys::eventfd::{EfdFlags, EventFd};
use quanta::Clock;

use super::asleep::Sleep;
use super::rest::Rest;
use super::{
    Answer, Command, Idle, IdlePolicy, Interrupt, Moderation, Notifier, PollMode, Poller, Progress,
    Records, WorkerEnd,
};
use crate::backend::BackendQueue;
use crate::blk::Geometry;
use crate::inflight::QueueLog;
use crate::limits::{DRAIN_MS_MAX, HAND_OVER_MS_MAX};
use crate::ring::DriverFault;
use crate::stats::{LatencyRecorder, QueueCounters};

mod hang;
mod interrupt;
mod serving;
pub(super) mod sleep;

/// How long a queue that is to stop is drained.
const DRAIN: Duration = Duration::from_millis(DRAIN_MS_MAX);

/// How to serve a queue.
#[derive(Debug)]
pub struct ServiceConfig {
    /// How long an interrupt may be held while more completions are on their way; zero for not at all.
    pub interrupt_hold: Duration,
    /// One pass in this many is timed for the latency histogram.
    pub latency_sample: NonZeroU32,
    /// The disk, as the backend knows it.
    pub geometry: Geometry,
    /// Where requests in flight are written down, should this process be killed.
    pub in_flight: Option<QueueLog>,
    /// What is signalled when the worker wakes from a sleep that was [watched](super::Asleep::watch).
    pub woken: Option<Arc<EventFd>>,
}

/// What others see of a service.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) counters: Arc<QueueCounters>,
    pub(super) fault: Arc<AtomicCell<Option<DriverFault>>>,
    pub(super) depth: Arc<AtomicCell<u16>>,
    pub(super) asleep: Arc<Sleep>,
}

/// Returns what puts a service together on the thread that it is to run on, since a poller watches the one that it is made on.
///
/// # Errors
///
/// When no eventfd can be had.
pub(super) fn prepare<Q: BackendQueue + 'static, N: Notifier + 'static>(
    config: ServiceConfig,
    mode: PollMode,
    waits: bool,
    end: WorkerEnd,
    backend: Q,
    notifier: N,
) -> nix::Result<(Shown, impl FnOnce() -> Service<Q, N> + Send + 'static)> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let kick = EventFd::from_flags(flags)?;
    let shown = Shown {
        counters: Arc::default(),
        fault: Arc::new(AtomicCell::new(None)),
        depth: Arc::new(AtomicCell::new(1)),
        asleep: Arc::new(Sleep::new(config.woken)),
    };
    let (counters, fault) = (Arc::clone(&shown.counters), Arc::clone(&shown.fault));
    let (depth, asleep) = (Arc::clone(&shown.depth), Arc::clone(&shown.asleep));
    let clock = Clock::new();
    // A worker that sleeps whenever it can does not spin for a held interrupt either.
    let hold = match mode {
        PollMode::Event => Duration::ZERO,
        _ => config.interrupt_hold,
    };
    let make = move || Service {
        end,
        kick,
        listening: false,
        backend,
        notifier,
        geometry: config.geometry,
        idle: IdlePolicy::new(mode),
        moderation: Moderation::new(hold),
        counters,
        latency: LatencyRecorder::new(clock.clone(), config.latency_sample),
        clock,
        fault,
        fault_shown: false,
        depth,
        asleep,
        poller: None,
        resting: None,
        in_flight: config.in_flight,
        waits,
    };
    Ok((shown, make))
}

/// What a pass came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Requests were taken or returned.
    Busy,
    /// The driver is about to be interrupted, so the queue is not idle.
    Holding,
    /// There was nothing to do.
    Idle,
    /// There is nothing that could be done before the next command.
    Nothing,
}

/// Everything that serves one queue.
pub(super) struct Service<Q, N> {
    pub(super) end: WorkerEnd,
    kick: EventFd,
    /// Whether the driver's kicks reach `kick`.
    listening: bool,
    pub(super) backend: Q,
    notifier: N,
    geometry: Geometry,
    idle: IdlePolicy,
    moderation: Moderation,
    pub(super) counters: Arc<QueueCounters>,
    latency: LatencyRecorder,
    clock: Clock,
    fault: Arc<AtomicCell<Option<DriverFault>>>,
    fault_shown: bool,
    depth: Arc<AtomicCell<u16>>,
    pub(super) asleep: Arc<Sleep>,
    pub(super) poller: Option<Poller>,
    /// The queue, while the driver's memory does not hold it.
    resting: Option<Rest>,
    in_flight: Option<QueueLog>,
    /// Whether its thread may wait for its backend, as it serves no other queue.
    waits: bool,
}

impl<Q: BackendQueue, N: Notifier> Service<Q, N> {
    /// Serves on this thread, which has nothing else to do, until it is told to end.
    pub(super) fn run(mut self) {
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
        match self.step() {
            Step::Busy => {
                self.idle.busy();
                true
            }
            Step::Holding => true,
            Step::Nothing => false,
            // No spin-loop hint: on a CPU of its own it saves nothing, and it makes the next look late.
            Step::Idle => self.idle.idle(|| self.clock.now()) == Idle::Spin || !self.may_sleep(),
        }
    }

    /// Does one pass, whatever is to be done then.
    #[inline(always)]
    pub(super) fn step(&mut self) -> Step {
        let Some(poller) = &mut self.poller else {
            return Step::Nothing;
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
                self.moderate();
                self.show_fault();
                Step::Busy
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
                    return Step::Holding;
                }
                if done_for { Step::Nothing } else { Step::Idle }
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
    pub(super) fn may_sleep(&self) -> bool {
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

    /// Returns how long what the backend has may take before `command` is obeyed; none if that is not waited for.
    pub(super) fn time_to_finish(&self, command: &Command) -> Option<Duration> {
        match command {
            Command::Beat | Command::Abandon { .. } | Command::Latency(_) => None,
            Command::Resize(geometry)
                if geometry.capacity_sectors >= self.geometry.capacity_sectors =>
            {
                None
            }
            Command::Leave | Command::TryPause => Some(Duration::from_millis(HAND_OVER_MS_MAX)),
            _ => Some(DRAIN),
        }
    }

    /// Returns what the backend has finished or finishes in `time`, and takes nothing new. Returns how many requests are left.
    pub(super) fn finish(&mut self, time: Duration) -> usize {
        let Some(poller) = &mut self.poller else {
            return 0;
        };
        let mut records = Records {
            counters: &self.counters,
            latency: &mut self.latency,
            in_flight: self.in_flight.as_mut(),
        };
        let left = poller.finish(&mut self.backend, time, &mut records);
        self.interrupt_if_wanted();
        left
    }

    /// Carries a command out. Returns false when the queue is not to be served any more.
    #[cold]
    pub(super) fn obey(&mut self, number: u64, command: Command) -> bool {
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
            Command::TryPause => self
                .try_pause()
                .map_or(Answer::Left(false), Answer::Stopped),
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
