//! A backend that does not finish what it has: how that is noticed, and how the queue lets go of it.

use std::time::Duration;

use super::Service;
use crate::backend::BackendQueue;
use crate::worker::{Answer, Notifier};

impl<Q: BackendQueue, N: Notifier> Service<Q, N> {
    /// Counts a beat. The worker has no clock for this: control beats the time.
    pub(super) fn beat(&mut self) -> Answer {
        let Some(poller) = &mut self.poller else {
            return Answer::Alive { oldest_beats: 0 };
        };
        poller.beat();
        let oldest_beats = poller.oldest_beats();
        Answer::Alive { oldest_beats }
    }

    /// Answers what is in flight with an error if any of it is `beats` old, and what comes later, too, if `refuse` is
    /// set. Returns how much that was.
    pub(super) fn abandon(&mut self, beats: u32, refuse: bool) -> usize {
        let Some(poller) = &mut self.poller else {
            return 0;
        };
        if poller.oldest_beats() < beats {
            return 0;
        }
        if refuse {
            poller.refuse();
        }
        self.drain(Duration::ZERO).abandoned
    }
}
