//! A virtqueue's notifications through VDUSE.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use pollux_dataplane::worker::Notifier;
use vduse::Device;

/// Both notifications of virtqueue `index`. Workers use it from their own threads: the ioctls take
/// what locks they need.
#[derive(Debug)]
pub(super) struct VduseNotifier {
    pub(super) device: Arc<Device>,
    pub(super) index: u32,
}

impl Notifier for VduseNotifier {
    fn interrupt(&mut self) -> io::Result<()> {
        self.device.inject_irq(self.index).map_err(io::Error::other)
    }

    fn listen(&mut self, kick: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.device
            .set_kickfd(self.index, kick)
            .map_err(io::Error::other)
    }
}
