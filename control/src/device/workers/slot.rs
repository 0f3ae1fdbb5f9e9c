//! One worker, and what it owes an answer to. A worker that owes one for long is stuck, until it answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pollux_dataplane::limits::{BEAT_MS, STUCK_MS, WORKER_ANSWER_MS_MAX};
use pollux_dataplane::ring::{RingState, SetupError};
use pollux_dataplane::stats::{Histogram, new_histogram};
use pollux_dataplane::worker::{Answer, Command, QueueSetup, Worker};
use tracing::{error, info, warn};

use super::Start;
use crate::device::{LatencyBucket, LatencySnapshot, QueueState, QueueStats};

const PATIENCE: Duration = Duration::from_millis(WORKER_ANSWER_MS_MAX);
const STUCK: Duration = Duration::from_millis(STUCK_MS);
const BEAT: Duration = Duration::from_millis(BEAT_MS);

/// Short: a worker answers within a pass, and this delays the kernel's messages.
const STATS_WAIT: Duration = Duration::from_millis(200);

/// How long a backend may hold a request before that is told, once.
const HELD: Duration = Duration::from_secs(10);

/// What a worker has not answered.
#[derive(Clone, Copy, Debug)]
struct Owed {
    /// The last command; its answer comes after all others.
    number: u64,
    /// How many.
    count: usize,
    /// When the first was posted.
    since: Instant,
}

/// Which queue a worker has, for the log.
#[derive(Debug)]
struct Label {
    device: String,
    queue: usize,
    cpu: usize,
}

/// One worker and what control knows of it.
#[derive(Debug)]
pub(super) struct Slot {
    label: Label,
    worker: Worker,
    pub(super) serving: bool,
    /// The queue rests, with nothing in flight.
    pub(super) paused: bool,
    /// Where the queue stood when it was last asked.
    pub(super) state: RingState,
    owed: Option<Owed>,
    /// It was told to stop and has not done so.
    stopping: bool,
    /// The command with which it is to start serving, until its answer is looked at.
    starting: Option<u64>,
    /// What it was to serve while it was stuck.
    missed: Option<(QueueSetup, Start)>,
    /// That it is stuck was told.
    told_stuck: bool,
    /// How many beats its backend has held the oldest request.
    held_beats: u32,
    beaten_at: Instant,
    /// All latencies since the worker started.
    latency: Histogram,
    /// Requests that the backend had when the worker last told.
    in_flight: u64,
    /// Why the driver's queue could not be served.
    pub(super) refused: Option<String>,
}

impl Slot {
    pub(super) fn new(device: &str, queue: usize, worker: Worker, cpu: usize) -> Self {
        let device = device.to_owned();
        Self {
            label: Label { device, queue, cpu },
            worker,
            serving: false,
            paused: false,
            state: RingState::default(),
            owed: None,
            stopping: false,
            starting: None,
            missed: None,
            told_stuck: false,
            held_beats: 0,
            beaten_at: Instant::now(),
            latency: new_histogram(),
            in_flight: 0,
            refused: None,
        }
    }

    pub(super) fn cpu(&self) -> usize {
        self.label.cpu
    }

    /// Returns whether its worker looks at a queue.
    pub(super) fn is_polling(&self) -> bool {
        self.serving && !self.paused
    }

    /// Returns whether there is something to [`watch`](Self::watch).
    pub(super) fn needs_watch(&self) -> bool {
        self.serving || self.owed.is_some()
    }

    /// Returns whether the worker waits for a kick with nothing in flight, and owes no answer. If so, it tells when it wakes.
    pub(super) fn rests(&self) -> bool {
        self.owed.is_none() && self.worker.asleep.watch()
    }

    /// Returns how many requests the driver keeps outstanding, as far as the worker knows.
    pub(super) fn depth(&self) -> u16 {
        self.worker.depth.load()
    }

    /// Has the worker serve a queue, which is [awaited](Self::await_started) before anything else is asked of it; one that is
    /// stuck will when it is back.
    pub(super) fn start(&mut self, setup: QueueSetup, start: Start) {
        self.serving = true;
        self.paused = false;
        self.state = setup.queue.state();
        self.refused = None;
        self.held_beats = 0;
        self.settle();
        if self.is_stuck() {
            let Label { device, queue, .. } = &self.label;
            warn!(
                device,
                queue, "the queue is not served before its worker answers"
            );
            self.missed = Some((setup, start));
            return;
        }
        let setup = Box::new(setup);
        let command = match start {
            Start::Fresh => Command::Start(setup),
            Start::TakenOver => Command::TakeOver(setup),
        };
        self.starting = self.post(command);
        if self.starting.is_none() {
            let Label { device, queue, .. } = &self.label;
            error!(device, queue, "the worker cannot be told to start");
        }
    }

    /// Waits until the worker serves what it was to [`start`](Self::start). A queue that cannot be served is shown.
    pub(super) fn await_started(&mut self) {
        let Some(number) = self.starting.take() else {
            return;
        };
        let answer = self.collect(Some(number));
        let Label { device, queue, .. } = &self.label;
        match answer {
            Some(Answer::Started(Ok(_))) => {}
            Some(Answer::Started(Err(reason))) => {
                let remedy = match reason {
                    SetupError::Area { .. } => {
                        "; a guest has to share its memory, in QEMU with -object memory-backend-memfd,share=on"
                    }
                    _ => "",
                };
                warn!(
                    device,
                    queue, "the queue cannot be served: {reason}{remedy}"
                );
                self.refused = Some(reason.to_string());
            }
            other => error!(device, queue, "the worker did not start: {other:?}"),
        }
    }

    /// Posts `command` unless the worker is stuck, which finds only a stop when it is back. Returns its number.
    pub(super) fn post(&mut self, command: Command) -> Option<u64> {
        self.settle();
        if matches!(command, Command::Stop) {
            self.missed = None;
            if self.stopping {
                return None;
            }
            let number = self.post_anyway(command);
            self.stopping = number.is_some();
            return number;
        }
        if self.is_stuck() {
            return None;
        }
        self.post_anyway(command)
    }

    /// Posts `command` whether the worker is stuck or not. Returns its number, if there was room.
    pub(super) fn post_anyway(&mut self, command: Command) -> Option<u64> {
        let number = self.worker.mailbox.post(command).ok()?;
        let (count, since) = match self.owed {
            Some(owed) => (owed.count + 1, owed.since),
            None => (1, Instant::now()),
        };
        self.owed = Some(Owed {
            number,
            count,
            since,
        });
        Some(number)
    }

    /// Waits for the answer to the last command, which is `number`, as long as a worker may take.
    pub(super) fn collect(&mut self, number: Option<u64>) -> Option<Answer> {
        let until = self.owed?.since + PATIENCE;
        self.collect_until(number?, until)
    }

    fn collect_until(&mut self, number: u64, until: Instant) -> Option<Answer> {
        let answer = self.worker.mailbox.wait(number, until).ok()?;
        let Label { device, queue, cpu } = &self.label;
        if let Some(Owed { since, .. }) = self.owed.take()
            && std::mem::take(&mut self.told_stuck)
        {
            let seconds = since.elapsed().as_secs();
            info!(
                device,
                queue, cpu, "the worker is back, after {seconds} s without an answer"
            );
        }
        self.stopping = false;
        if let Answer::Alive { oldest_beats } = answer {
            self.set_held(oldest_beats);
        }
        Some(answer)
    }

    pub(super) fn ask(&mut self, command: Command) -> Option<Answer> {
        let number = self.post(command);
        self.collect(number)
    }

    /// Sees whether what is owed has come.
    fn settle(&mut self) {
        if let Some(Owed { number, .. }) = self.owed {
            self.collect_until(number, Instant::now());
        }
    }

    /// Returns whether the worker is not stuck.
    pub(super) fn listens(&mut self) -> bool {
        self.settle();
        !self.is_stuck()
    }

    fn is_stuck(&self) -> bool {
        self.owed.is_some_and(|owed| owed.since.elapsed() >= STUCK)
    }

    /// Returns how long its backend has held the oldest request, at least: the first beat may have come at once.
    fn held(&self) -> Duration {
        BEAT * self.held_beats.saturating_sub(1)
    }

    fn set_held(&mut self, beats: u32) {
        let before = self.held();
        self.held_beats = beats;
        if before < HELD && self.held() >= HELD {
            let Label { device, queue, cpu } = &self.label;
            let seconds = HELD.as_secs();
            warn!(
                device,
                queue, cpu, "the backend has held a request for {seconds} s"
            );
        }
    }

    /// Looks whether the worker answers and what its backend holds; after `limit` that is given up, and all that
    /// comes later, too, if `refuse` is set. Returns whether it was.
    pub(super) fn watch(&mut self, limit: Option<Duration>, refuse: bool) -> bool {
        self.settle();
        if self.is_stuck() {
            if !std::mem::replace(&mut self.told_stuck, true) {
                let Label { device, queue, cpu } = &self.label;
                error!(
                    device,
                    queue, cpu, "the worker is stuck: it has not answered for {STUCK_MS} ms"
                );
            }
            return false;
        }
        if let Some((setup, start)) = self.missed.take() {
            self.start(setup, start);
            self.await_started();
        }
        let is_over = self.serving && limit.is_some_and(|limit| self.held() >= limit);
        let failed = is_over && self.abandon(self.held_beats, refuse);
        if self.owed.is_none() && self.beaten_at.elapsed() >= BEAT {
            self.beaten_at = Instant::now();
            // Should it wake just now, the next beat is soon enough.
            match self.worker.asleep.get() {
                true => self.held_beats = 0,
                false => drop(self.post_anyway(Command::Beat)),
            }
        }
        failed
    }

    /// Gives up whatever the backend has, and all that comes later.
    pub(super) fn refuse(&mut self) {
        if self.serving {
            self.abandon(0, true);
        }
    }

    /// Returns whether anything was as old as `beats`, and failed.
    fn abandon(&mut self, beats: u32, refuse: bool) -> bool {
        let held = self.held().as_secs();
        self.held_beats = 0;
        let Label { device, queue, .. } = &self.label;
        let (device, queue) = (device.clone(), *queue);
        match self.ask(Command::Abandon { beats, refuse }) {
            // It was finished after all.
            Some(Answer::Abandoned(0)) => return false,
            Some(Answer::Abandoned(count)) => error!(
                device,
                queue, "the backend held a request for {held} s: {count} requests failed"
            ),
            other => error!(device, queue, "the worker did not abandon: {other:?}"),
        }
        true
    }

    /// Returns what the queue has counted.
    pub(super) fn stats(&mut self, index: u16) -> QueueStats {
        self.settle();
        // Room is left for the kernel's commands.
        if self.owed.is_none_or(|owed| owed.count < 2) {
            let number = self.post(Command::Latency(Box::new(new_histogram())));
            let until = Instant::now() + STATS_WAIT;
            if let Some(Answer::Latency {
                histogram,
                in_flight,
            }) = number.and_then(|number| self.collect_until(number, until))
            {
                // Both have the same bounds, so adding cannot fail.
                let _ = self.latency.add(*histogram);
                self.in_flight = in_flight as u64;
            }
        }
        let (state, fault) = self.state_and_reason();
        let counted = self.worker.counters.snapshot();
        QueueStats {
            index,
            cpu: self.label.cpu,
            state,
            fault,
            requests: counted.requests,
            bytes_read: counted.bytes_read,
            bytes_written: counted.bytes_written,
            errors: counted.errors,
            driver_faults: counted.driver_faults,
            host_errors: self.host_errors(),
            backend_system_calls: counted.backend_system_calls,
            backend_registered: counted.backend_registered,
            backend_copied: counted.backend_copied,
            polls_busy: counted.polls_busy,
            polls_idle: counted.polls_idle,
            sleeps: counted.sleeps,
            kicks: counted.kicks,
            interrupts: counted.interrupts,
            interrupts_refused: counted.interrupts_refused,
            in_flight: self.in_flight,
            depth: self.depth(),
            latency_ns: LatencySnapshot::from(&self.latency),
            latency_buckets: LatencyBucket::all(&self.latency),
        }
    }

    fn host_errors(&self) -> BTreeMap<String, u64> {
        let met = self.worker.counters.host_errors.met();
        met.map(|(errno, count)| (format!("{:?}", Errno::from_raw(errno)), count))
            .collect()
    }

    fn state_and_reason(&self) -> (QueueState, Option<String>) {
        let fault = self.worker.fault.load().map(|fault| fault.to_string());
        let fault = self.refused.clone().or(fault);
        match (self.owed, fault, self.is_polling()) {
            (Some(Owed { since, .. }), _, _) if since.elapsed() >= STUCK => {
                let seconds = since.elapsed().as_secs();
                let reason = format!("its worker has not answered for {seconds} s");
                (QueueState::Stuck, Some(reason))
            }
            (_, fault, false) => (QueueState::Unused, fault),
            (_, Some(fault), true) => (QueueState::Broken, Some(fault)),
            (_, None, true) if self.held() >= STUCK => {
                let seconds = self.held().as_secs();
                let reason = format!("its backend has held a request for {seconds} s");
                (QueueState::Running, Some(reason))
            }
            (_, None, true) => (QueueState::Running, None),
        }
    }

    /// Tells the thread to end. Returns whether there was room to do so.
    pub(super) fn post_exit(&mut self) -> bool {
        self.post_anyway(Command::Exit).is_some()
    }

    /// Waits for the end of the thread if it was `told`. Returns whether it has ended.
    pub(super) fn end(self, told: bool, deadline: Instant) -> bool {
        while told && !self.worker.host.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !self.worker.host.is_finished() {
            let Label { device, queue, .. } = &self.label;
            error!(
                device,
                queue, "the worker does not end; its thread is left behind"
            );
            return false;
        }
        self.worker.host.join()
    }
}
