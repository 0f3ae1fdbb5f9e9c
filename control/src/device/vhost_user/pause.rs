//! A device that a person pauses, as seen from its frontend: no queue is served, and nothing else is different.
//!
//! | what comes meanwhile | what it does |
//! |---|---|
//! | memory, rings, eventfds, enabling and disabling | counts from when the device goes on |
//! | GET_VRING_BASE | is answered with where the queue stands; the queue is served again once it is kicked off anew |
//! | a hang-up, RESET_DEVICE | ends the pause, as a reset does with VDUSE; the next frontend is served |
//! | another frontend | waits until this one is gone, paused or not |

use tracing::info;

use super::session::Session;

impl Session {
    /// Returns whether a frontend has agreed on features, as it does before it uses the device.
    pub(super) fn is_used(&self) -> bool {
        !self.features.is_empty()
    }

    /// Has all queues rest, with nothing in flight. Returns whether they do; where storage takes too long for that, all go on.
    pub(super) fn pause(&mut self) -> bool {
        if self.paused {
            return true;
        }
        self.paused = true;
        if self.workers.try_pause_all(&self.memory.table()) {
            info!(device = self.name, "paused");
            return true;
        }
        self.resume();
        false
    }

    /// Goes on with every queue where it was left, in the memory that the frontend shares now, and starts those that it has
    /// set up meanwhile.
    pub(super) fn resume(&mut self) {
        if !std::mem::take(&mut self.paused) {
            return;
        }
        info!(device = self.name, "goes on");
        let table = self.memory.table();
        for index in 0..self.queues.len() {
            if self.queues[index].served {
                self.workers.resume(index, &table);
            } else {
                // What cannot be served was told where the frontend said it, or is logged.
                let _ = self.start(index as u32);
            }
        }
    }
}
