//! What a block device forgets for good (`BLKSECDISCARD`, block/ioctl.c).
//!
//! There is no way to ask for it and go on, so a worker waits until it is done, and its queue with it: which is why a
//! request is kept short.
//!
//! # Safety
//!
//! The ioctl reads two numbers, and writes to no memory.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::blk::SectorRange;

/// Sectors of one range, at most: 32 MiB.
pub(super) const SECTORS_MAX: u32 = 1 << 16;

mod ioctl {
    nix::ioctl_write_ptr_bad!(secure_discard, nix::request_code_none!(0x12, 125), [u64; 2]);
}

/// Erases `range` of `device`.
pub(super) fn secure_erase(device: &File, range: SectorRange) -> nix::Result<()> {
    match range.bytes() {
        0 => Ok(()),
        bytes => erase_bytes(device, range.start_bytes(), bytes),
    }
}

/// Returns whether `device`, which is open for writing, can erase for good. Nothing else tells.
pub(super) fn is_supported(device: &File) -> bool {
    // A place that is none: whether the device can do it is looked at before where.
    matches!(erase_bytes(device, 1, 1), Err(Errno::EINVAL))
}

fn erase_bytes(device: &File, start: u64, bytes: u64) -> nix::Result<()> {
    // SAFETY: the kernel reads the two numbers, see the module's header.
    unsafe { ioctl::secure_discard(device.as_raw_fd(), &[start, bytes]) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_cannot() {
        assert!(!is_supported(&tempfile::tempfile().unwrap()));
    }
}
