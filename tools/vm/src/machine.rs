//! What every machine has: a kernel in QEMU or as a process, its initramfs, and the channels it tells through.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::Error;
use crate::kernel::Kernel;
use crate::qemu::Qemu;
use crate::spec::{Accel, VmSpec};
use crate::stream::Stream;
use crate::uml::Uml;

/// The guest's ports, by number from 1 (init.sh knows the same order).
pub(crate) const PORTS: [Stream; 4] = [Stream::Stdout, Stream::Stderr, Stream::Status, Stream::Out];

/// What a machine sends.
pub(crate) type Streams = Vec<(Stream, PipeReader)>;

/// A running machine; killed when dropped.
#[derive(Debug)]
pub(crate) enum Machine {
    Qemu(Qemu),
    Uml(Uml),
}

impl Machine {
    /// Powers the machine on. Returns it with what it sends, to be read to the end.
    pub(crate) fn start(
        spec: &VmSpec,
        accel: Accel,
        kernel: &Kernel,
        archives: &[&Path],
        payload: &[u8],
    ) -> Result<(Self, Streams), Error> {
        match accel {
            Accel::Uml => {
                let (uml, streams) = Uml::start(spec, kernel, archives, payload)?;
                Ok((Self::Uml(uml), streams))
            }
            Accel::Kvm | Accel::Tcg => {
                let (qemu, streams) = Qemu::start(spec, accel, kernel, archives, payload)?;
                Ok((Self::Qemu(qemu), streams))
            }
        }
    }

    /// Returns where it stands.
    pub(crate) fn state(&mut self) -> String {
        match self {
            Self::Qemu(qemu) => qemu.state(),
            Self::Uml(uml) => uml.state(),
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Qemu(qemu) => qemu.kill(),
            Self::Uml(uml) => uml.kill(),
        }
    }
}

/// The pipes of a machine: its ports, its console, and its own messages.
#[derive(Debug)]
pub(crate) struct Channels {
    pipes: Vec<(Stream, PipeReader, PipeWriter)>,
    errors: (PipeReader, PipeWriter),
}

impl Channels {
    /// Makes them.
    pub(crate) fn new() -> io::Result<Self> {
        let pipe = |stream: Stream| io::pipe().map(|(reader, writer)| (stream, reader, writer));
        let streams = PORTS.into_iter().chain([Stream::Log]);
        Ok(Self {
            pipes: streams.map(pipe).collect::<io::Result<_>>()?,
            errors: io::pipe()?,
        })
    }

    /// Returns the descriptors that a machine is to inherit: its ports' by number from 1, then its console's.
    pub(crate) fn writers(&self) -> Vec<RawFd> {
        self.pipes.iter().map(|pipe| pipe.2.as_raw_fd()).collect()
    }

    /// Returns where its console's output goes.
    pub(crate) fn console(&self) -> io::Result<PipeWriter> {
        let console = self.pipes.last().ok_or(io::ErrorKind::NotFound)?;
        console.2.try_clone()
    }

    /// Returns where its own messages go.
    pub(crate) fn errors(&self) -> io::Result<PipeWriter> {
        self.errors.1.try_clone()
    }

    /// Returns what to read once it has started. The writers close here: then the readers end when the machine does.
    pub(crate) fn into_streams(self) -> Streams {
        let pipes = self.pipes.into_iter();
        let streams = pipes.map(|(stream, reader, _)| (stream, reader));
        streams.chain([(Stream::Qemu, self.errors.0)]).collect()
    }
}

/// Returns all archives in one anonymous file.
pub(crate) fn initrd(archives: &[&Path], payload: &[u8]) -> io::Result<File> {
    let mut initrd = File::from(memfd_create(c"initramfs", MFdFlags::MFD_CLOEXEC)?);
    for archive in archives {
        let length = io::copy(&mut File::open(archive)?, &mut initrd)?;
        // The kernel finds the next archive after padding to a multiple of 4.
        initrd.write_all(&[0; 4][..((4 - length % 4) % 4) as usize])?;
    }
    initrd.write_all(payload)?;
    Ok(initrd)
}

/// Returns the path by which a machine opens a descriptor that it inherits.
pub(crate) fn fd_path(fd: RawFd) -> String {
    format!("/proc/self/fd/{fd}")
}

/// Returns what the threads of process `pid` wait for.
pub(crate) fn threads(pid: u32) -> String {
    let mut text = String::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let file = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let stat = file("stat");
        // Its name in brackets, its state, and far behind the ticks that it ran (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
        let field = |number: usize| fields.get(number - 2).copied().unwrap_or("?");
        text.push_str(&format!(
            "thread {}: state {}, {} user and {} system ticks, waits in {}\n",
            file("comm").trim(),
            field(3),
            field(14),
            field(15),
            file("wchan"),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn archives_after_the_first_are_aligned() {
        let dir = tempfile::tempdir().unwrap();
        let (base, debian) = (dir.path().join("base"), dir.path().join("debian"));
        std::fs::write(&base, b"12345").unwrap();
        std::fs::write(&debian, b"abcd").unwrap();
        let mut file = initrd(&[&base, &debian], b"67").unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"12345\0\0\0abcd67");
    }
}
