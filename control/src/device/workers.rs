//! The workers of a device, as control sees them. Every wait here has a bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pollux_dataplane::blk::Geometry;
use pollux_dataplane::inflight::InFlightLog;
use pollux_dataplane::limits::WORKER_ANSWER_MS_MAX;
use pollux_dataplane::mem::RegionTable;
use pollux_dataplane::ring::RingState;
use pollux_dataplane::worker::{Answer, Command, QueueSetup, Worker};
use tracing::{error, warn};

use super::QueueStats;
use slot::Slot;

mod rest;
mod slot;

/// How a queue was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The driver has just set it up.
    Fresh,
    /// A daemon that was killed served it.
    TakenOver,
}

/// All workers of a device, by virtqueue.
#[derive(Debug)]
pub(super) struct Workers {
    name: String,
    slots: Vec<Slot>,
}

impl Workers {
    /// Returns those of device `name`, none so far.
    pub(super) fn new(name: String) -> Self {
        let slots = Vec::new();
        Self { name, slots }
    }

    /// Adds the worker of the next queue, which is on `cpu`.
    pub(super) fn push(&mut self, worker: Worker, cpu: usize) {
        let slot = Slot::new(&self.name, self.slots.len(), worker, cpu);
        self.slots.push(slot);
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the CPU of each worker.
    pub(super) fn cpus(&self) -> Vec<usize> {
        self.slots.iter().map(Slot::cpu).collect()
    }

    /// Returns how many requests the driver of queue `index` keeps outstanding, as far as its worker knows.
    pub(super) fn depth(&self, index: usize) -> u16 {
        self.slots.get(index).map_or(0, Slot::depth)
    }

    pub(super) fn is_serving(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(Slot::is_polling)
    }

    /// Returns whether there is something to [`watch`](Self::watch).
    pub(super) fn need_watch(&self) -> bool {
        self.slots.iter().any(Slot::needs_watch)
    }

    /// Returns whether every worker that serves a queue waits for a kick with nothing in flight, and some do. The first that
    /// wakes wakes the control thread then.
    pub(super) fn rest(&self) -> bool {
        let mut watched = self.slots.iter().filter(|slot| slot.needs_watch());
        let first = watched.next();
        first.is_some_and(Slot::rests) && watched.all(Slot::rests)
    }

    /// Has worker `index` serve the queue in `setup`, from the next [`await_started`](Self::await_started) on.
    pub(super) fn start(&mut self, index: usize, setup: QueueSetup, start: Start) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.start(setup, start);
        }
    }

    /// Waits until every worker serves what it was to start. A queue that cannot be served is shown as broken.
    pub(super) fn await_started(&mut self) {
        self.slots.iter_mut().for_each(Slot::await_started);
    }

    /// Looks after every worker: whether it answers, and whether its backend has held a request for `limit`. All that
    /// the queue has there fails then. If `refuse` is set, so do those of the other queues, and all that comes until
    /// the queues are started again.
    pub(super) fn watch(&mut self, limit: Option<Duration>, refuse: bool) {
        let watched = self.slots.iter_mut().map(|slot| slot.watch(limit, refuse));
        let failed = watched.filter(|failed| *failed).count() > 0;
        if failed && refuse {
            self.slots.iter_mut().for_each(Slot::refuse);
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

    /// Has worker `index` leave its queue and the driver's memory. Returns how far it got; none if it did not in time.
    pub(super) fn stop_one(&mut self, index: usize) -> Option<RingState> {
        let slot = self.slots.get_mut(index)?;
        let answer = slot.ask(Command::Stop);
        let (device, queue) = (&self.name, index);
        slot.serving = false;
        slot.paused = false;
        slot.refused = None;
        match answer {
            Some(Answer::Stopped(report)) => {
                slot.state = report.state.unwrap_or(slot.state);
                if report.abandoned > 0 {
                    warn!(device, queue, "abandoned {} requests", report.abandoned);
                }
                Some(slot.state)
            }
            _ => {
                error!(device, queue, "the worker did not stop in time");
                None
            }
        }
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

    /// Returns that no worker is stuck.
    ///
    /// # Errors
    ///
    /// The queue of the first that is.
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
        let posted: Vec<_> = self
            .slots
            .iter_mut()
            .map(|slot| slot.post(Command::Resize(geometry.clone())))
            .collect();
        let answers = self.slots.iter_mut().zip(posted);
        // Each is waited for: an answer that was collected is none that is owed.
        let answers: Vec<_> = answers.map(|(slot, number)| slot.collect(number)).collect();
        let late = answers.iter().position(Option::is_none);
        late.map_or(Ok(()), Err)
    }

    /// Has every worker write what is in flight down in `log`, if any. None serves a queue. Returns whether all will in
    /// time.
    pub(super) fn log(&mut self, log: Option<&InFlightLog>) -> bool {
        let mut all = true;
        for (index, slot) in (0..).zip(&mut self.slots) {
            let log = log.and_then(|log| log.queue(index)).map(Box::new);
            all &= matches!(slot.ask(Command::Log(log)), Some(Answer::Logging));
        }
        all
    }

    /// Returns how far queue `index` got, with everything that was taken completed.
    pub(super) fn state(&mut self, index: usize, table: &Arc<RegionTable>) -> Option<RingState> {
        let slot = self.slots.get_mut(index)?;
        if slot.is_polling() && slot.refused.is_none() {
            match slot.ask(Command::Remap(Arc::clone(table)))? {
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
        let posted: Vec<_> = self
            .slots
            .iter_mut()
            .map(|slot| command(slot).map(|command| slot.post(command)))
            .collect();
        let answers = self.slots.iter_mut().zip(posted);
        answers
            .map(|(slot, number)| number.map(|n| slot.collect(n).ok_or(())))
            .collect()
    }

    /// Returns what every queue has counted.
    pub(super) fn stats(&mut self) -> Vec<QueueStats> {
        (0..)
            .zip(&mut self.slots)
            .map(|(index, slot)| slot.stats(index))
            .collect()
    }

    /// Ends every worker thread that still listens. Returns whether all ended.
    pub(super) fn end(mut self) -> bool {
        let deadline = Instant::now() + Duration::from_millis(WORKER_ANSWER_MS_MAX);
        let posted = self.slots.iter_mut().map(Slot::post_exit);
        let told: Vec<bool> = posted.collect();
        let slots = std::mem::take(&mut self.slots).into_iter().zip(told);
        let ended: Vec<bool> = slots.map(|(slot, told)| slot.end(told, deadline)).collect();
        ended.into_iter().all(|ended| ended)
    }
}

impl Drop for Workers {
    /// Tells those to end for whose end nobody has waited.
    fn drop(&mut self) {
        for slot in &mut self.slots {
            slot.post_exit();
        }
    }
}

#[cfg(test)]
mod tests;
