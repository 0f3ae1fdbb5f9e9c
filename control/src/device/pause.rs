//! Queues that a driver disables while it uses the device, and a device that it suspends (VDUSE's protocol features of
//! Linux 7.3).
//!
//! A queue that is paused has nothing in flight and keeps its place. The kernel tells of both before they hold for
//! itself, so a queue that is enabled is served only once the kernel shows it ready: interrupts before are lost.

use tracing::{error, info};
use vduse::Reply;

use super::thread::ControlThread;

impl ControlThread {
    /// Follows a driver that enables or disables queue `index`. Never refused: that would break the device.
    pub(super) fn set_queue_ready(&mut self, index: usize, ready: bool) -> Reply {
        if !self.status.is_driver_ok() || self.suspended {
            // DRIVER_OK looks at all queues, and what is suspended stays so until the reset.
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
        self.awaited.clear();
        if self.workers.pause_all() {
            self.suspended = true;
            info!(device = %self.options.name, "suspended by its driver");
            Reply::Ok
        } else {
            // It is not, then.
            self.start_queues(super::workers::Start::Fresh);
            Reply::Failed
        }
    }
}
