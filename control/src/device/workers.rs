//! The workers of a device, as control sees them. Every wait here has a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pollux_dataplane::blk::Geometry;
use pollux_dataplane::limits::WORKER_ANSWER_MS_MAX;
use pollux_dataplane::mem::RegionTable;
use pollux_dataplane::ring::{RingState, SetupError};
use pollux_dataplane::stats::{Histogram, new_histogram};
use pollux_dataplane::worker::{Answer, Command, QueueSetup, Worker};
use tracing::{error, warn};

use super::{LatencySnapshot, QueueState, QueueStats};

mod rest;

/// How a queue was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The driver has just set it up.
    Fresh,
    /// A daemon that was killed served it.
    TakenOver,
}

/// One worker and what control knows of it.
#[derive(Debug)]
pub(super) struct Slot {
    worker: Worker,
    cpu: usize,
    serving: bool,
    /// The queue rests, with nothing in flight.
    paused: bool,
    /// Where the queue stood when it was last asked.
    state: RingState,
    /// The command that it has not answered in time.
    unanswered: Option<u64>,
    /// All latencies since the worker started.
    latency: Histogram,
    /// Why the driver's queue could not be served.
    refused: Option<String>,
}

/// All workers of a device, by virtqueue.
#[derive(Debug)]
pub(super) struct Workers {
    name: String,
    slots: Vec<Slot>,
}

impl Workers {
    /// Takes over `workers`, each with its CPU.
    pub(super) fn new(name: String, workers: impl IntoIterator<Item = (Worker, usize)>) -> Self {
        let slots = workers.into_iter().map(|(worker, cpu)| Slot {
            worker,
            cpu,
            serving: false,
            paused: false,
            state: RingState::default(),
            unanswered: None,
            latency: new_histogram(),
            refused: None,
        });
        Self {
            name,
            slots: slots.collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the CPU of each worker.
    pub(super) fn cpus(&self) -> Vec<usize> {
        self.slots.iter().map(|slot| slot.cpu).collect()
    }

    /// Returns how many requests the driver of queue `index` keeps outstanding, as far as its worker knows.
    pub(super) fn depth(&self, index: usize) -> u16 {
        self.slots
            .get(index)
            .map_or(0, |slot| slot.worker.depth.load())
    }

    pub(super) fn is_serving(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(Slot::is_polling)
    }

    /// Has worker `index` serve the queue in `setup`. A queue that cannot be served is shown as broken.
    pub(super) fn start(&mut self, index: usize, setup: QueueSetup, start: Start) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.serving = true;
        slot.paused = false;
        slot.state = setup.queue.state();
        slot.refused = None;
        let setup = Box::new(setup);
        let command = match start {
            Start::Fresh => Command::Start(setup),
            Start::TakenOver => Command::TakeOver(setup),
        };
        match slot.ask(command, deadline()) {
            Some(Answer::Started(Ok(_))) => {}
            Some(Answer::Started(Err(reason))) => {
                let remedy = match reason {
                    SetupError::Area { .. } => {
                        "; a guest has to share its memory, in QEMU with -object memory-backend-memfd,share=on"
                    }
                    _ => "",
                };
                warn!(
                    device = self.name,
                    queue = index,
                    "the queue cannot be served: {reason}{remedy}"
                );
                slot.refused = Some(reason.to_string());
            }
            other => error!(
                device = self.name,
                queue = index,
                "worker did not start: {other:?}"
            ),
        }
    }

    /// Has every worker leave its queue and the driver's memory. Returns whether all did in time.
    pub(super) fn stop(&mut self) -> bool {
        let answers = self.ask_all(|slot| slot.serving.then_some(Command::Stop));
        let mut all = true;
        for (index, (slot, answer)) in self.slots.iter_mut().zip(answers).enumerate() {
            let Some(answer) = answer else { continue };
            slot.serving = false;
            slot.paused = false;
            slot.refused = None;
            let (device, queue) = (&self.name, index);
            match answer {
                Ok(Answer::Stopped(report)) => {
                    slot.state = report.state.unwrap_or(slot.state);
                    if report.abandoned > 0 {
                        warn!(device, queue, "abandoned {} requests", report.abandoned);
                    }
                }
                _ => {
                    all = false;
                    error!(device, queue, "the worker did not stop in time");
                }
            }
        }
        all
    }

    /// Has every worker let go of its queue for another process, with nothing in flight. Returns whether all did;
    /// those that did not go on.
    pub(super) fn leave(&mut self) -> bool {
        let answers = self.ask_all(|slot| slot.serving.then_some(Command::Leave));
        let mut all = true;
        for (slot, answer) in self.slots.iter_mut().zip(answers) {
            match answer {
                None => {}
                Some(Ok(Answer::Left(true))) => (slot.serving, slot.paused) = (false, false),
                Some(_) => all = false,
            }
        }
        all
    }

    /// Has every worker that serves a queue use `table`. Returns whether all did in time; none has a
    /// request in flight in the old memory then.
    pub(super) fn remap(&mut self, table: &Arc<RegionTable>) -> bool {
        let remap = || Command::Remap(Arc::clone(table));
        let answers = self.ask_all(|slot| slot.is_polling().then(remap));
        let mut all = true;
        for (slot, answer) in self.slots.iter_mut().zip(answers) {
            match answer {
                None => {}
                Some(Ok(Answer::Started(Ok(state)))) => {
                    slot.state = state;
                    slot.refused = None;
                }
                Some(Ok(Answer::Started(Err(reason)))) => slot.refused = Some(reason.to_string()),
                Some(_) => all = false,
            }
        }
        all
    }

    /// Returns that no worker owes an answer.
    ///
    /// # Errors
    ///
    /// The queue of the first that does.
    pub(super) fn all_listen(&mut self) -> Result<(), usize> {
        let late = self.slots.iter_mut().position(|slot| !slot.listens());
        late.map_or(Ok(()), Err)
    }

    /// Has every worker serve a disk like `geometry`, whether it has a queue or not. Returns that all do.
    ///
    /// # Errors
    ///
    /// The queue of the first that does not answer. It will serve that disk, too, should it look at its commands.
    pub(super) fn resize(&mut self, geometry: &Geometry) -> Result<(), usize> {
        let deadline = deadline();
        let posted: Vec<_> = self
            .slots
            .iter_mut()
            .map(|slot| slot.post(Command::Resize(geometry.clone())))
            .collect();
        let answers = self.slots.iter_mut().zip(posted);
        // Each is waited for: an answer that was collected is none that is owed.
        let answers: Vec<_> = answers
            .map(|(slot, number)| slot.collect(number, deadline))
            .collect();
        let late = answers.iter().position(Option::is_none);
        late.map_or(Ok(()), Err)
    }

    /// Returns how far queue `index` got, with everything that was taken completed.
    pub(super) fn state(&mut self, index: usize, table: &Arc<RegionTable>) -> Option<RingState> {
        let slot = self.slots.get_mut(index)?;
        if slot.is_polling() && slot.refused.is_none() {
            match slot.ask(Command::Remap(Arc::clone(table)), deadline())? {
                Answer::Started(Ok(state)) => slot.state = state,
                _ => return None,
            }
        }
        Some(slot.state)
    }

    /// Posts each worker its `command`, if any, then waits for all. `None` for those without.
    fn ask_all(
        &mut self,
        command: impl Fn(&Slot) -> Option<Command>,
    ) -> Vec<Option<Result<Answer, ()>>> {
        let deadline = deadline();
        let posted: Vec<_> = self
            .slots
            .iter_mut()
            .map(|slot| command(slot).map(|command| slot.post(command)))
            .collect();
        let answers = self.slots.iter_mut().zip(posted);
        answers
            .map(|(slot, number)| number.map(|n| slot.collect(n, deadline).ok_or(())))
            .collect()
    }

    /// Returns what every queue has counted.
    pub(super) fn stats(&mut self) -> Vec<QueueStats> {
        // Short: a worker answers within a pass, and this delays the kernel's messages.
        let deadline = Instant::now() + Duration::from_millis(200);
        (0..)
            .zip(&mut self.slots)
            .map(|(index, slot)| slot.stats(index, deadline))
            .collect()
    }

    /// Ends every worker thread that still listens. Returns whether all ended.
    pub(super) fn end(mut self) -> bool {
        let deadline = deadline();
        let posted = self.slots.iter_mut().map(|slot| slot.post(Command::Exit));
        let told: Vec<bool> = posted.map(|number| number.is_some()).collect();
        let mut all = true;
        for (slot, told) in self.slots.into_iter().zip(told) {
            let thread = slot.worker.thread;
            while told && !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                all &= thread.join().is_ok();
            } else {
                error!(
                    device = self.name,
                    "a worker does not end; its thread is left behind"
                );
                all = false;
            }
        }
        all
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_millis(WORKER_ANSWER_MS_MAX)
}

impl Slot {
    /// Returns whether its worker looks at a queue.
    fn is_polling(&self) -> bool {
        self.serving && !self.paused
    }

    /// Posts `command` unless the worker still owes an answer. Returns its number.
    fn post(&mut self, command: Command) -> Option<u64> {
        if !self.listens() {
            return None;
        }
        self.worker.mailbox.post(command).ok()
    }

    /// Returns whether the worker owes no answer.
    fn listens(&mut self) -> bool {
        if let Some(number) = self.unanswered
            // It may have come back since.
            && self.worker.mailbox.wait(number, Instant::now()).is_ok()
        {
            self.unanswered = None;
        }
        self.unanswered.is_none()
    }

    /// Waits for the answer to command `number`.
    fn collect(&mut self, number: Option<u64>, deadline: Instant) -> Option<Answer> {
        let number = number?;
        let answer = self.worker.mailbox.wait(number, deadline).ok();
        if answer.is_none() {
            self.unanswered = Some(number);
        }
        answer
    }

    fn ask(&mut self, command: Command, deadline: Instant) -> Option<Answer> {
        let number = self.post(command);
        self.collect(number, deadline)
    }

    fn stats(&mut self, index: u16, deadline: Instant) -> QueueStats {
        let empty = Command::Latency(Box::new(new_histogram()));
        if let Some(Answer::Latency(latest)) = self.ask(empty, deadline) {
            // Both have the same bounds, so adding cannot fail.
            let _ = self.latency.add(*latest);
        }
        let fault = self.worker.fault.load().map(|fault| fault.to_string());
        let fault = self.refused.clone().or(fault);
        let state = match (&fault, self.unanswered, self.is_polling()) {
            (_, Some(_), _) => QueueState::Stuck,
            (_, None, false) => QueueState::Unused,
            (Some(_), None, true) => QueueState::Broken,
            (None, None, true) => QueueState::Running,
        };
        let counted = self.worker.counters.snapshot();
        QueueStats {
            index,
            cpu: self.cpu,
            state,
            fault,
            requests: counted.requests,
            bytes_read: counted.bytes_read,
            bytes_written: counted.bytes_written,
            errors: counted.errors,
            driver_faults: counted.driver_faults,
            polls_busy: counted.polls_busy,
            polls_idle: counted.polls_idle,
            sleeps: counted.sleeps,
            kicks: counted.kicks,
            interrupts: counted.interrupts,
            latency_ns: LatencySnapshot::from(&self.latency),
        }
    }
}

#[cfg(test)]
mod tests;
