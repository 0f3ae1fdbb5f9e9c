//! Starting user-mode Linux with everything through inherited descriptors.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::child::{self, Owned};
use crate::error::{Context, Error};
use crate::kernel::Kernel;
use crate::machine::{self, Channels, PORTS, Streams};
use crate::spec::VmSpec;

/// A running kernel; killed when dropped.
#[derive(Debug)]
pub(crate) struct Uml {
    child: Owned,
}

impl Uml {
    /// Starts the kernel. Returns it with what it sends, to be read to the end.
    pub(crate) fn start(
        spec: &VmSpec,
        kernel: &Kernel,
        archives: &[&Path],
        payload: &[u8],
    ) -> Result<(Self, Streams), Error> {
        let initrd = machine::initrd(archives, payload).context("initramfs", "copying")?;
        let channels = Channels::new().context("pipe", "making")?;
        let mut command = Command::new(kernel.image());
        command.args([
            format!("mem={}M", spec.memory_mib),
            format!("ncpus={}", spec.cpus),
            format!("initrd={}", machine::fd_path(initrd.as_raw_fd())),
        ]);
        command.args([
            "rdinit=/init",
            "panic=-1",
            "noreboot",
            "seccomp=auto",
            "con=null",
            "ssl=null",
        ]);
        command.args(spec.further_words());
        let writers = channels.writers();
        let (ports, log) = writers.split_at(PORTS.len());
        for (number, fd) in ports.iter().enumerate() {
            command.arg(format!("ssl{}=null,fd:{fd}", number + 1));
        }
        // What it says before it has this console goes to stderr.
        command.args(log.iter().map(|fd| format!("con0=null,fd:{fd}")));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(channels.console().context("pipe", "copying")?);
        let mut inherited = writers;
        inherited.push(initrd.as_raw_fd());
        let child =
            child::spawn(&mut command, &inherited).context("user-mode Linux", "starting")?;
        let child = Owned(child);
        Ok((Self { child }, channels.into_streams()))
    }

    /// Returns what its threads wait for.
    pub(crate) fn state(&self) -> String {
        machine::threads(self.child.id())
    }

    /// Ends the kernel at once; the processes that its guest's are end with it.
    pub(crate) fn kill(&mut self) {
        self.child.kill();
    }
}
