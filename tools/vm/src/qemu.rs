//! Starting QEMU with everything through inherited descriptors: no file is left behind.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::child;
use crate::error::{Context, Error};
use crate::host;
use crate::kernel::Kernel;
use crate::monitor::Monitor;
use crate::nvme::{self, Image};
use crate::spec::{Accel, VmSpec};
use crate::stream::Stream;

/// The guest's ports, by number from 1 (init.sh knows the same order).
const PORTS: [Stream; 4] = [Stream::Stdout, Stream::Stderr, Stream::Status, Stream::Out];

/// A running machine; killed when dropped.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Child,
    monitor: Monitor,
    /// What the guest sends, to be read to the end.
    pub(crate) streams: Vec<(Stream, PipeReader)>,
}

impl Qemu {
    /// Powers the machine on.
    pub(crate) fn start(
        spec: &VmSpec,
        accel: Accel,
        kernel: &Kernel,
        archives: &[&Path],
        payload: &[u8],
    ) -> Result<Self, Error> {
        let initrd = initrd(archives, payload).context("initramfs", "copying")?;
        let pipe = |stream: Stream| io::pipe().map(|(reader, writer)| (stream, reader, writer));
        let pipes: Vec<(Stream, PipeReader, PipeWriter)> = PORTS
            .into_iter()
            .chain([Stream::Log])
            .map(pipe)
            .collect::<io::Result<_>>()
            .context("pipe", "making")?;
        let (_, errors, error_writer) = pipe(Stream::Qemu).context("pipe", "making")?;

        let (monitor, monitor_fd) = Monitor::pair().context("socket pair", "making")?;

        let mut command = host::command("qemu-system-x86_64");
        command.args(machine(spec, accel));
        command.args(Monitor::arguments(&monitor_fd));
        command.arg("-kernel").arg(kernel.image());
        command.args([
            "-initrd",
            &fd_path(initrd.as_raw_fd()),
            "-append",
            &spec.cmdline(),
        ]);
        for (number, (_, _, writer)) in pipes.iter().enumerate() {
            command.args(channel(number + 1, writer.as_raw_fd()));
        }
        let namespaces = nvme::namespaces(spec.nvme, spec.nvme_images.as_deref())?;
        command.args(nvme::arguments(&namespaces));
        command.args(&spec.qemu_args);
        command.stdout(Stdio::null()).stderr(error_writer);
        let mut inherited: Vec<RawFd> = pipes.iter().map(|p| p.2.as_raw_fd()).collect();
        let images = namespaces.iter().flatten().filter_map(Image::inherited);
        inherited.extend(images.chain([&initrd]).map(File::as_raw_fd));
        inherited.push(monitor_fd.as_raw_fd());
        let child = child::spawn(&mut command, &inherited).context("qemu", "starting")?;
        // The writers close here: then the readers end when QEMU does.
        let mut streams: Vec<_> = pipes.into_iter().map(|p| (p.0, p.1)).collect();
        streams.push((Stream::Qemu, errors));
        Ok(Self {
            child,
            monitor,
            streams,
        })
    }

    /// Returns where the machine stands: the registers of its CPUs, and what QEMU's threads wait for.
    pub(crate) fn state(&mut self) -> String {
        let mut text = self.monitor.registers();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            let file = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let stat = file("stat");
            // Its name in brackets, its state, and far behind the ticks that it ran (proc_pid_stat(5)).
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
            let field = |number: usize| fields.get(number - 2).copied().unwrap_or("?");
            text.push_str(&format!(
                "QEMU thread {}: state {}, {} user and {} system ticks, waits in {}\n",
                file("comm").trim(),
                field(3),
                field(14),
                field(15),
                file("wchan"),
            ));
        }
        text
    }

    /// Ends the machine at once.
    pub(crate) fn kill(&mut self) {
        // Fails only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the arguments that describe the machine.
fn machine(spec: &VmSpec, accel: Accel) -> Vec<String> {
    let accel = match accel {
        // Remapping of interrupts by an emulated IOMMU needs the APICs of KVM, but not its IOAPIC.
        Accel::Kvm if spec.nvme > 0 => "kvm,kernel-irqchip=split",
        Accel::Kvm => "kvm",
        Accel::Tcg => "tcg,thread=multi",
    };
    let (cpus, memory) = (spec.cpus.to_string(), format!("{}M", spec.memory_mib));
    let fixed = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ];
    let chosen = [
        "-machine", "q35", "-accel", accel, "-cpu", "max", "-smp", &cpus, "-m", &memory,
    ];
    let serial = ["-device", "virtio-serial-pci,max_ports=8"];
    fixed
        .iter()
        .chain(&chosen)
        .chain(&serial)
        .map(|arg| (*arg).to_owned())
        .collect()
}

/// Returns the arguments for a port, or for the serial console, which comes after the ports.
fn channel(number: usize, fd: RawFd) -> Vec<String> {
    let chardev = format!("file,id=c{number},path={}", fd_path(fd));
    let mut args = vec!["-chardev".to_owned(), chardev];
    if number <= PORTS.len() {
        args.extend([
            "-device".to_owned(),
            format!("virtserialport,chardev=c{number},nr={number}"),
        ]);
    } else {
        args.extend(["-serial".to_owned(), format!("chardev:c{number}")]);
    }
    args
}

/// Returns all archives in one anonymous file.
fn initrd(archives: &[&Path], payload: &[u8]) -> io::Result<File> {
    let mut initrd = File::from(memfd_create(c"initramfs", MFdFlags::MFD_CLOEXEC)?);
    for archive in archives {
        let length = io::copy(&mut File::open(archive)?, &mut initrd)?;
        // The kernel finds the next archive after padding to a multiple of 4.
        initrd.write_all(&[0; 4][..((4 - length % 4) % 4) as usize])?;
    }
    initrd.write_all(payload)?;
    Ok(initrd)
}

/// Returns the path by which QEMU opens a descriptor that it inherits.
pub(crate) fn fd_path(fd: RawFd) -> String {
    format!("/proc/self/fd/{fd}")
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

    #[test]
    fn ports_are_numbered_as_init_expects() {
        assert_eq!(channel(4, 9)[3], "virtserialport,chardev=c4,nr=4");
        assert_eq!(channel(5, 9)[2], "-serial");
    }
}
