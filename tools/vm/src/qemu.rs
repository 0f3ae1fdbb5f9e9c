//! Starting QEMU with everything through inherited descriptors: no file is left behind.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::process::Stdio;

use crate::child::{self, Owned};
use crate::error::{Context, Error};
use crate::host;
use crate::kernel::Kernel;
use crate::machine::{self, Channels, PORTS, Streams, fd_path};
use crate::monitor::Monitor;
use crate::nvme::{self, Image};
use crate::spec::{Accel, VmSpec};

/// A running machine; killed when dropped.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Owned,
    monitor: Monitor,
}

impl Qemu {
    /// Powers the machine on. Returns it with what it sends, to be read to the end.
    pub(crate) fn start(
        spec: &VmSpec,
        accel: Accel,
        kernel: &Kernel,
        archives: &[&Path],
        payload: &[u8],
    ) -> Result<(Self, Streams), Error> {
        let initrd = machine::initrd(archives, payload).context("initramfs", "copying")?;
        let channels = Channels::new().context("pipe", "making")?;
        let (monitor, monitor_fd) = Monitor::pair().context("socket pair", "making")?;

        let mut command = host::command("qemu-system-x86_64");
        command.args(arguments(spec, accel));
        command.args(Monitor::arguments(&monitor_fd));
        command.arg("-kernel").arg(kernel.image());
        command.args([
            "-initrd",
            &fd_path(initrd.as_raw_fd()),
            "-append",
            &spec.cmdline(),
        ]);
        let writers = channels.writers();
        for (number, &fd) in writers.iter().enumerate() {
            command.args(channel(number + 1, fd));
        }
        let namespaces = nvme::namespaces(spec.nvme, spec.nvme_images.as_deref())?;
        command.args(nvme::arguments(&namespaces));
        command.args(&spec.qemu_args);
        command.stdout(Stdio::null());
        command.stderr(channels.errors().context("pipe", "copying")?);
        let mut inherited = writers;
        let images = namespaces.iter().flatten().filter_map(Image::inherited);
        inherited.extend(images.chain([&initrd]).map(File::as_raw_fd));
        inherited.push(monitor_fd.as_raw_fd());
        let child = child::spawn(&mut command, &inherited).context("qemu", "starting")?;
        let child = Owned(child);
        Ok((Self { child, monitor }, channels.into_streams()))
    }

    /// Returns where the machine stands: the registers of its CPUs, and what QEMU's threads wait for.
    pub(crate) fn state(&mut self) -> String {
        let mut text = self.monitor.registers();
        text.push_str(&machine::threads(self.child.id()));
        text
    }

    /// Ends the machine at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill();
    }
}

/// Without the features that say that `rep movsb` is the quickest copy: TCG does it byte by byte, so that a page costs a
/// kernel and C library that believe them four times as much as word by word.
const TCG_CPU: &str = "max,-erms,-fsrm";

/// Returns the arguments that describe the machine.
fn arguments(spec: &VmSpec, accel: Accel) -> Vec<String> {
    let (accel, cpu) = match accel {
        // Remapping of interrupts by an emulated IOMMU needs the APICs of KVM, but not its IOAPIC.
        Accel::Kvm if spec.nvme > 0 => ("kvm,kernel-irqchip=split", "max"),
        Accel::Kvm => ("kvm", "max"),
        Accel::Tcg | Accel::Uml => ("tcg,thread=multi", TCG_CPU),
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
        "-machine", "q35", "-accel", accel, "-cpu", cpu, "-smp", &cpus, "-m", &memory,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbered_as_init_expects() {
        assert_eq!(channel(4, 9)[3], "virtserialport,chardev=c4,nr=4");
        assert_eq!(channel(5, 9)[2], "-serial");
    }
}
