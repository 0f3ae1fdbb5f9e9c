//! Queues that rest: nothing of them is in flight, and their workers know where they go on.

use std::sync::Arc;

use pollux_dataplane::mem::RegionTable;
use pollux_dataplane::worker::{Answer, Command, QueueSetup};
use tracing::warn;

use super::{Slot, Workers};

impl Workers {
    /// Has worker `index` finish what is in flight and let its queue rest. Returns whether it did in time, or has
    /// no queue.
    pub(in super::super) fn pause(&mut self, index: usize) -> bool {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.is_polling()) else {
            return true;
        };
        let answer = slot.ask(Command::Pause);
        slot.rest(answer)
    }

    /// The same for every worker.
    pub(in super::super) fn pause_all(&mut self) -> bool {
        let answers = self.ask_all(|slot| slot.is_polling().then_some(Command::Pause));
        let mut all = true;
        for (slot, answer) in self.slots.iter_mut().zip(answers) {
            if let Some(answer) = answer {
                all &= slot.rest(answer.ok());
            }
        }
        all
    }

    /// The same, but nothing fails: a queue with more in flight than can be finished in time does not rest. One whose worker
    /// does not answer goes on in the memory of `table`, should it rest after all.
    pub(in super::super) fn try_pause_all(&mut self, table: &Arc<RegionTable>) -> bool {
        let polling = self.slots.iter_mut().filter(|slot| slot.is_polling());
        let posted: Vec<_> = polling
            .map(|slot| (slot.post(Command::TryPause), slot))
            .collect();
        let mut all = true;
        for (number, slot) in posted {
            let answer = slot.collect(number);
            if number.is_some() && answer.is_none() {
                slot.post_anyway(Command::Remap(Arc::clone(table)));
            }
            all &= slot.rest(answer);
        }
        all
    }

    /// Has worker `index` go on with its queue in the memory of `table`, if it rests. Returns whether it did.
    pub(in super::super) fn resume(&mut self, index: usize, table: &Arc<RegionTable>) -> bool {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.paused) else {
            return false;
        };
        slot.paused = false;
        match slot.ask(Command::Remap(Arc::clone(table))) {
            Some(Answer::Started(Ok(state))) => (slot.state, slot.refused) = (state, None),
            Some(Answer::Started(Err(reason))) => slot.refused = Some(reason.to_string()),
            other => warn!(
                device = self.name,
                queue = index,
                "the queue does not go on: {other:?}"
            ),
        }
        true
    }

    /// Has worker `index` find out where the one before left the queue in `setup`, which rests.
    pub(in super::super) fn recover(&mut self, index: usize, setup: QueueSetup) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.serving = true;
        match slot.ask(Command::Recover(Box::new(setup))) {
            Some(Answer::Started(Ok(state))) => (slot.state, slot.paused) = (state, true),
            other => {
                warn!(
                    device = self.name,
                    queue = index,
                    "nothing tells where the queue goes on: {other:?}"
                );
                slot.refused = Some("nothing tells where it goes on".into());
            }
        }
    }
}

impl Slot {
    /// Takes the answer to [`Command::Pause`] or [`Command::TryPause`]. Returns whether the queue rests.
    fn rest(&mut self, answer: Option<Answer>) -> bool {
        let Some(Answer::Stopped(report)) = answer else {
            return false;
        };
        self.state = report.state.unwrap_or(self.state);
        self.paused = true;
        true
    }
}
