//! What lets the daemon serve on while the machine is short of memory.
//!
//! Memory is made free by writing it to disks, and the disk may be one of ours: then nothing that serves may wait for
//! memory to be made free, or to be read back in.
//!
//! # Safety
//!
//! The prctl takes no pointer.

#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// `PR_SET_IO_FLUSHER` (`include/uapi/linux/prctl.h`, Linux 5.6).
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Prepares this process. Threads inherit it, so this comes before there are any. Returns what is not allowed, and done
/// without.
pub(super) fn prepare() -> Vec<String> {
    let mut lacks = Vec::new();
    // Also for what a device's memory counts against, of which root is not exempt.
    let locked = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
        .and_then(|()| lock_memory());
    if let Err(errno) = locked {
        lacks.push(format!(
            "memory cannot be locked ({}), so a request may wait for memory to be read back in: run as root, or with \
             CAP_SYS_RESOURCE and CAP_IPC_LOCK",
            errno.desc()
        ));
    }
    if let Err(errno) = become_io_flusher() {
        lacks.push(format!(
            "PR_SET_IO_FLUSHER is refused ({}), so a machine short of memory may come to a halt while it writes to a \
             disk served here: run as root, or with CAP_SYS_RESOURCE",
            errno.desc()
        ));
    }
    lacks
}

/// Locks what is there, and what comes from its first use on: a ram disk takes no more memory than is written.
fn lock_memory() -> nix::Result<()> {
    mlockall(MlockAllFlags::MCL_CURRENT)?;
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_FUTURE | on_fault)
}

/// Has allocations by this thread, and those that it starts, never wait for writes to a disk.
fn become_io_flusher() -> nix::Result<()> {
    // SAFETY: it changes flags of the calling thread alone.
    let result = unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
    Errno::result(result).map(drop)
}
