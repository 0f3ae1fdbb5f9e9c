//! Starting a child that inherits some descriptors and dies with its parent.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

/// Starts `command` with the descriptors `inherited`, under the same numbers.
///
/// It is killed when the calling thread ends, however that ends (PR_SET_PDEATHSIG). The caller
/// keeps the descriptors open until this returns.
///
/// # Errors
/// When the command cannot be started.
pub(crate) fn spawn(command: &mut Command, inherited: &[RawFd]) -> io::Result<Child> {
    let parent = getpid();
    let inherited = inherited.to_vec();
    let prepare = move || prepare(parent, &inherited);
    // SAFETY: between fork and exec the closure only makes system calls (prctl, getppid, fcntl)
    // and reads memory that was allocated before the fork: no lock, no allocation.
    unsafe { command.pre_exec(prepare) }.spawn()
}

/// A child that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Owned(pub(crate) Child);

impl Owned {
    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        // Fails only when it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the child does before exec; async-signal-safe.
fn prepare(parent: Pid, inherited: &[RawFd]) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::ErrorKind::Interrupted.into());
    }
    for &fd in inherited {
        // SAFETY: the caller of spawn keeps the descriptors open, and nothing in this child
        // closes them before exec.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn descriptors_are_inherited() {
        let (mut reader, writer) = pipe().unwrap();
        let fd = writer.as_raw_fd();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo there >/proc/self/fd/{fd}")]);
        let mut child = spawn(&mut command, &[fd]).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "there\n");
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn the_child_dies_with_the_thread() {
        let child = std::thread::spawn(|| spawn(Command::new("sleep").arg("60"), &[]).unwrap());
        let status = child.join().unwrap().wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9)
        );
    }
}
