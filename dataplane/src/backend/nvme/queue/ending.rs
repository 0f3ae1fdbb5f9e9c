//! What is pending ends before its time: by Abort, with its queue, or with the controller.

use std::time::Duration;

use nix::errno::Errno;

use super::NvmeQueue;
use crate::backend::nvme::controller::DEAD;
use crate::backend::{Outcome, Token};

/// Time in which commands end whose Aborts were answered.
const ABORTED_TIME: Duration = Duration::from_millis(500);

/// What becomes of requests when the controller is gone.
pub(super) const LOST: Outcome = Outcome::Failed {
    errno: Errno::ENODEV as i32,
};
/// What becomes of those of which part was done when they were given up.
const CANCELED: Outcome = Outcome::Failed {
    errno: Errno::ECANCELED as i32,
};

impl NvmeQueue {
    /// Asks the controller to end all commands that it has. Returns in which time they may.
    #[cold]
    pub(super) fn abort_commands(&mut self) -> Duration {
        if self.epoch == DEAD {
            return Duration::ZERO;
        }
        // Nothing more of a request is begun: it is over when its last command is, or given up without any.
        for index in self.waiting.drain(..) {
            self.requests[usize::from(index)]
                .failure
                .get_or_insert(CANCELED);
        }
        if !self.has_commands() {
            return Duration::ZERO;
        }
        let slots = (0..).zip(&self.slots);
        let commands = slots.filter_map(|(id, slot)| slot.request.map(|_| id));
        match self.controller.abort(self.id, self.epoch, commands) {
            true => ABORTED_TIME,
            false => {
                self.is_owed_abort = true;
                Duration::ZERO
            }
        }
    }

    /// Ends all requests. The device has none of their commands when this returns.
    #[cold]
    pub(super) fn give_up(&mut self) {
        let is_owed_abort = std::mem::take(&mut self.is_owed_abort);
        if self.has_commands() || is_owed_abort {
            self.controller.delete_queue(self.id, self.epoch);
            self.forget_commands();
            if self.create().is_err() {
                self.epoch = DEAD;
            }
        }
        self.waiting.clear();
        self.free_requests.clear();
        for (index, request) in (0..).zip(&mut self.requests) {
            request.end();
            self.free_requests.push(index);
        }
    }

    /// Returns whether the device has commands.
    fn has_commands(&self) -> bool {
        self.free_slots.len() < self.slots.len()
    }

    /// Goes on after the queue pair has gone, with all that is pending from its start.
    #[cold]
    pub(super) fn recover(&mut self) {
        self.forget_commands();
        if self.create().is_err() {
            self.epoch = DEAD;
            return;
        }
        self.waiting.clear();
        for (index, request) in (0..).zip(&mut self.requests) {
            if request.token.is_some() {
                request.restart();
                self.waiting.push_back(index);
            }
        }
        self.issue_waiting();
        self.pair.ring();
    }

    /// Takes back all that commands have. The device has none.
    fn forget_commands(&mut self) {
        self.free_slots.clear();
        for (index, slot) in (0..).zip(&mut self.slots) {
            slot.request = None;
            self.bounce.give_back(&mut slot.pages);
            self.free_slots.push(index);
        }
    }

    /// Returns a request of a queue whose controller is lost.
    #[cold]
    pub(super) fn fail_one(&mut self) -> Option<(Token, Outcome)> {
        let pending = self.requests.iter().position(|it| it.token.is_some())?;
        Some((self.end_request(pending as u16)?, LOST))
    }
}
