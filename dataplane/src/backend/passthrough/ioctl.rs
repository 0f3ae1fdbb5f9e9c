//! What the kernel is asked of a namespace besides its commands for data (include/uapi/linux/nvme_ioctl.h).
//!
//! # Safety
//!
//! The kernel writes to a command's own bytes and to the page that it names; both live through the call.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::command::{COMMAND_BYTES, bytes, data};
use crate::backend::nvme::command::Command;
use crate::backend::nvme::identify::IDENTIFY_BYTES;

/// `struct nvme_passthru_cmd`.
#[repr(C, align(8))]
pub(super) struct Passthrough([u8; COMMAND_BYTES]);

nix::ioctl_none_bad!(namespace_id, nix::request_code_none!(b'N', 0x40));
nix::ioctl_readwrite!(admin_command, b'N', 0x41, Passthrough);

/// Returns the number of the namespace that is open as `file`.
///
/// # Errors
///
/// What the kernel said: it is none.
pub(super) fn nsid(file: &File) -> io::Result<u32> {
    // SAFETY: it takes no argument.
    let nsid = unsafe { namespace_id(file.as_raw_fd()) }?;
    u32::try_from(nsid).map_err(io::Error::other)
}

/// Returns the identify structure `cns` of namespace `nsid`.
///
/// # Errors
///
/// What the kernel said, or the controller's status.
pub(super) fn identify(file: &File, cns: u8, nsid: u32) -> io::Result<Box<[u8; IDENTIFY_BYTES]>> {
    let mut page = Box::new([0_u8; IDENTIFY_BYTES]);
    let identify = Command::identify(cns, nsid, 0);
    let data = data(page.as_mut_ptr() as u64, IDENTIFY_BYTES as u32);
    let mut command = Passthrough(bytes(&identify.with_data(data)));
    // SAFETY: the command names the whole page and no more, and nothing else uses either meanwhile.
    let status = unsafe { admin_command(file.as_raw_fd(), &raw mut command) }?;
    match status {
        0 => Ok(page),
        status => Err(io::Error::other(format!(
            "the controller answers {status:#x}"
        ))),
    }
}
