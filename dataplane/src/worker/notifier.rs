//! How a worker reaches the driver and lets the driver reach it.

use std::io;
use std::os::fd::BorrowedFd;

/// The two notifications of one virtqueue. Control implements it over VDUSE and vhost-user; tests over nothing.
pub trait Notifier: Send {
    /// Interrupts the driver.
    ///
    /// # Errors
    ///
    /// What the kernel said; the worker counts it and goes on.
    fn interrupt(&mut self) -> io::Result<()>;

    /// Has the driver's kicks signal `kick`, an eventfd, or nothing.
    ///
    /// # Errors
    ///
    /// What the kernel said; the worker then keeps polling.
    fn listen(&mut self, kick: Option<BorrowedFd<'_>>) -> io::Result<()>;

    /// Returns the eventfd that the driver's kicks signal where it brings one of its own, which need not be
    /// [listened](Self::listen) to. It stays the same, and never blocks a reader.
    fn driver_kick(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
