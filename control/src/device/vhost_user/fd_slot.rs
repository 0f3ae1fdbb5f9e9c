//! A file descriptor whose file is replaced while other threads use it.
//!
//! A frontend may give another eventfd for an interrupt at any time, as QEMU does whenever a guest masks it. The worker
//! knows a number that never changes and is never closed; what it stands for is the kernel's to change, without a lock
//! of ours.
//!
//! # Safety
//!
//! The number stays open as long as the slot, which every user holds.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A number for the files that come.
#[derive(Debug)]
pub(super) struct FdSlot(OwnedFd);

impl FdSlot {
    /// Returns one that stands for nothing anyone looks at.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(nowhere()?))
    }

    /// Has it stand for `file` from here on, or for nothing. A worker never waits for it: it is told when it would have to.
    ///
    /// # Errors
    ///
    /// What the system said; it stands for what it did before then.
    pub(super) fn set(&self, file: Option<OwnedFd>) -> io::Result<()> {
        let file = match file {
            Some(file) => file,
            None => nowhere()?,
        };
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: both numbers are open, the one that is replaced is this slot's own, and it is open afterwards, too.
        let replaced = unsafe { libc::dup3(file.as_raw_fd(), self.0.as_raw_fd(), libc::O_CLOEXEC) };
        Errno::result(replaced)?;
        Ok(())
    }
}

impl AsFd for FdSlot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn nowhere() -> io::Result<OwnedFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    Ok(OwnedFd::from(EventFd::from_flags(flags)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_goes_to_the_file_of_the_moment() {
        let slot = FdSlot::new().unwrap();
        let number = slot.as_fd().as_raw_fd();
        let eventfd = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let (one, other) = (eventfd(), eventfd());
        let write = || nix::unistd::write(&slot, &1_u64.to_ne_bytes()).unwrap();
        write();
        slot.set(Some(one.as_fd().try_clone_to_owned().unwrap()))
            .unwrap();
        write();
        write();
        slot.set(Some(other.as_fd().try_clone_to_owned().unwrap()))
            .unwrap();
        write();
        slot.set(None).unwrap();
        write();
        assert_eq!((one.read(), other.read()), (Ok(2), Ok(1)));
        assert_eq!(slot.as_fd().as_raw_fd(), number);
    }
}
