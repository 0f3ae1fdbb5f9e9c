//! Queues that a driver disables while it uses the device, a device that it suspends (VDUSE's protocol features of Linux 7.3),
//! and one that a person pauses.
//!
//! A queue that is paused has nothing in flight and keeps its place. The kernel tells of both before they hold for
//! itself, so a queue that is enabled is served only once the kernel shows it ready: interrupts before are lost.

use tracing::{error, info};
use vduse::{Name, Reply};

use super::thread::ControlThread;
use super::workers::Start;

/// Why a device is not paused.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// Nobody has asked for anything.
    #[error("device {0} has no driver that uses it: there is nothing to pause")]
    Unused(Name),
    /// Storage still works on what the driver has asked for.
    #[error(
        "device {0} is served on: its storage did not finish what it has in time; try again when it does"
    )]
    Late(Name),
    /// The driver has done so itself.
    #[error("device {0} was suspended by its driver, which alone has it go on, with a reset")]
    Suspended(Name),
}

impl ControlThread {
    /// Stands still with nothing in flight, for a person, until [`go_on`](Self::go_on) or until the driver takes the device out
    /// of use.
    pub(super) fn pause(&mut self) -> Result<(), PauseError> {
        let name = || self.options.name.clone();
        if !self.status.is_driver_ok() || self.broken {
            return Err(PauseError::Unused(name()));
        }
        if self.suspended {
            return Err(PauseError::Suspended(name()));
        }
        self.paused = true;
        if self.workers.leave() {
            info!(device = %self.options.name, "paused");
            return Ok(());
        }
        let late = PauseError::Late(name());
        self.go_on();
        Err(late)
    }

    /// Goes on from where each queue was left. A device that is not paused does that anyway.
    pub(super) fn go_on(&mut self) {
        if std::mem::take(&mut self.paused) {
            info!(device = %self.options.name, "goes on");
            self.start_queues(Start::TakenOver);
        }
    }

    /// Follows a driver that enables or disables queue `index`. Never refused: that would break the device.
    pub(super) fn set_queue_ready(&mut self, index: usize, ready: bool) -> Reply {
        if !self.status.is_driver_ok() || self.suspended || self.paused {
            // DRIVER_OK looks at all queues, as going on does, and what is suspended stays so until the reset.
            return Reply::Ok;
        }
        if ready {
            self.awaited.insert(index);
        } else {
            self.awaited.remove(&index);
            if !self.workers.pause(index) {
                error!(device = %self.options.name, queue = index, "the worker did not leave a disabled queue in time");
            }
        }
        Reply::Ok
    }

    /// Stands still until the reset, with nothing in flight.
    pub(super) fn suspend(&mut self) -> Reply {
        // Workers know where queues stand that they have.
        self.go_on();
        self.awaited.clear();
        if self.workers.pause_all() {
            self.suspended = true;
            info!(device = %self.options.name, "suspended by its driver");
            Reply::Ok
        } else {
            // It is not, then.
            self.start_queues(Start::Fresh);
            Reply::Failed
        }
    }
}
