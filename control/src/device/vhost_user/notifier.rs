//! A virtqueue's notifications through the eventfds that its frontend brings.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use pollux_dataplane::worker::Notifier;

use super::fd_slot::FdSlot;

/// The two eventfds of one virtqueue.
#[derive(Clone, Debug)]
pub(super) struct Eventfds {
    /// Signalled by the driver.
    pub(super) kick: Arc<FdSlot>,
    /// Signals the driver.
    pub(super) call: Arc<FdSlot>,
}

impl Eventfds {
    /// Returns those of a queue without a frontend.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            kick: Arc::new(FdSlot::new()?),
            call: Arc::new(FdSlot::new()?),
        })
    }
}

impl Notifier for Eventfds {
    fn interrupt(&mut self) -> io::Result<()> {
        nix::unistd::write(&self.call, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    fn listen(&mut self, _: Option<BorrowedFd<'_>>) -> io::Result<()> {
        Ok(())
    }

    fn driver_kick(&self) -> Option<BorrowedFd<'_>> {
        Some(self.kick.as_fd())
    }
}
