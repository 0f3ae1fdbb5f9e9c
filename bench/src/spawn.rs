//! What a child process does between fork and exec: it is pinned, and ends with its parent.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

/// Gives the child a process group of its own, so that Ctrl-C on the terminal reaches this process
/// alone and teardown keeps its order; pins it to `cpus`; has the kernel end it if this
/// process dies first; and leaves no signal blocked.
pub(crate) fn confine(command: &mut Command, cpus: Option<CpuSet>) {
    command.process_group(0);
    let set_up = move || {
        set_pdeathsig(Signal::SIGTERM)?;
        // `Interrupt` blocks SIGTERM in this process, and a mask outlives exec.
        SigSet::empty().thread_set_mask()?;
        if let Some(set) = cpus {
            sched_setaffinity(Pid::from_raw(0), &set)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes three
    // system calls, and owns all that it reads (`CpuSet` is a plain array): it neither allocates
    // nor locks.
    unsafe {
        command.pre_exec(set_up);
    }
}
