//! `/dev/vduse/NAME`: one device, its virtqueues, its IOTLB and its messages.

mod address_space;
mod error;
mod reopen;
mod umem;

pub use address_space::AddressSpace;
pub use error::{DeviceError, OpenError};

use crate::abi::{MESSAGE_SIZE, VduseIotlbEntry, VduseVqConfig, VduseVqInfo};
use crate::{Access, IotlbEntry, IotlbInfo, Name, QueueInfo, Reply, Request, ioctl};
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An open VDUSE device. The kernel lets one process at a time have it open.
///
/// Every method may be called from any thread. `EPOLLIN` on the file means that
/// [`Device::receive`] has a message; `EPOLLERR` that the device is broken for good.
///
/// Serving a virtqueue takes an eventfd, what the driver set up, and an interrupt for what was done:
///
/// ```no_run
/// use std::os::fd::AsFd;
///
/// use nix::sys::eventfd::EventFd;
/// use vduse::Device;
///
/// let device = Device::open(&"d0".parse()?)?;
/// let kick = EventFd::new()?;
/// device.set_kickfd(0, Some(kick.as_fd()))?;
/// let queue = device.queue_info(0)?;
/// assert!(queue.ready, "served only once the driver has made it ready");
/// loop {
///     kick.read()?; // waits for the driver
///     println!("requests are in the rings from {:#x} on", queue.descriptor_area);
///     device.inject_irq(0)?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Device {
    name: Name,
    file: File,
}

impl Device {
    /// Opens `/dev/vduse/NAME`, close-on-exec and non-blocking.
    pub fn open(name: &Name) -> Result<Self, OpenError> {
        Self::open_at(Path::new("/dev/vduse"), name)
    }

    fn open_at(folder: &Path, name: &Name) -> Result<Self, OpenError> {
        let path = folder.join(name.as_str());
        let file = open(&path).map_err(|reason| OpenError::new(name, reason))?;
        Ok(Self {
            name: name.clone(),
            file,
        })
    }

    /// The device's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The feature bits that the driver chose; 0 after a reset (`VDUSE_DEV_GET_FEATURES`).
    pub fn features(&self) -> Result<u64, DeviceError> {
        ioctl::dev_get_features(self.as_fd()).map_err(self.failed("VDUSE_DEV_GET_FEATURES"))
    }

    /// Writes `data` to the configuration space at `offset` (`VDUSE_DEV_SET_CONFIG`).
    ///
    /// The driver sees it when it next reads; [`Device::inject_config_irq`] makes it read.
    pub fn set_config(&self, offset: u32, data: &[u8]) -> Result<(), DeviceError> {
        ioctl::dev_set_config(self.as_fd(), offset, data)
            .map_err(self.failed("VDUSE_DEV_SET_CONFIG"))
    }

    /// Tells the driver that the configuration space changed (`VDUSE_DEV_INJECT_CONFIG_IRQ`).
    ///
    /// [`DeviceError::Invalid`] means that the driver has not set `DRIVER_OK`.
    pub fn inject_config_irq(&self) -> Result<(), DeviceError> {
        ioctl::dev_inject_config_irq(self.as_fd())
            .map_err(self.failed("VDUSE_DEV_INJECT_CONFIG_IRQ"))
    }

    /// Declares a virtqueue and its largest size in descriptors (`VDUSE_VQ_SETUP`).
    ///
    /// To be done for every virtqueue before the device is attached. The driver wants powers of
    /// two up to 32768, and before Linux 6.9 the same size for all queues. The virtqueue is in group 0.
    /// With API version 1 it is [`DeviceError::Invalid`] once the driver has set `DRIVER_OK`.
    pub fn setup_queue(&self, index: u32, size_max: u16) -> Result<(), DeviceError> {
        self.setup_queue_in_group(index, size_max, 0)
    }

    /// The same for a virtqueue in `group`, which must be 0 with API version 0.
    pub fn setup_queue_in_group(
        &self,
        index: u32,
        size_max: u16,
        group: u32,
    ) -> Result<(), DeviceError> {
        let config = VduseVqConfig {
            index,
            max_size: size_max,
            group,
            ..Default::default()
        };
        ioctl::vq_setup(self.as_fd(), &config).map_err(self.failed("VDUSE_VQ_SETUP"))
    }

    /// What the driver made of a virtqueue (`VDUSE_VQ_GET_INFO`).
    pub fn queue_info(&self, index: u32) -> Result<QueueInfo, DeviceError> {
        let mut info = VduseVqInfo {
            index,
            ..Default::default()
        };
        ioctl::vq_get_info(self.as_fd(), &mut info).map_err(self.failed("VDUSE_VQ_GET_INFO"))?;
        Ok(info.into())
    }

    /// Sets the eventfd that a kick of the driver signals, or takes it away
    /// (`VDUSE_VQ_SETUP_KICKFD`).
    ///
    /// A reset takes it away too. Without one, a kick costs the driver a flag in the kernel only;
    /// setting one signals it at once if the driver kicked since.
    pub fn set_kickfd(&self, index: u32, kick: Option<BorrowedFd<'_>>) -> Result<(), DeviceError> {
        ioctl::vq_setup_kickfd(self.as_fd(), index, kick)
            .map_err(self.failed("VDUSE_VQ_SETUP_KICKFD"))
    }

    /// Raises the interrupt of a virtqueue (`VDUSE_VQ_INJECT_IRQ`). Does not allocate.
    ///
    /// The driver must have set `DRIVER_OK` ([`DeviceError::Invalid`] before); an interrupt raised
    /// earlier is not remembered.
    #[inline]
    pub fn inject_irq(&self, index: u32) -> Result<(), DeviceError> {
        ioctl::vq_inject_irq(self.as_fd(), index).map_err(self.failed("VDUSE_VQ_INJECT_IRQ"))
    }

    /// The address space `asid`. Needs API version 1 for any other than 0.
    pub fn address_space(&self, asid: u32) -> AddressSpace<'_> {
        AddressSpace { device: self, asid }
    }

    /// The first region of address space 0 that overlaps `start..=last`, and a file to map it with
    /// (`VDUSE_IOTLB_GET_FD`); `None` where nothing is mapped.
    ///
    /// The file becomes close-on-exec right after the kernel has opened it: a process forked by
    /// another thread in between keeps it.
    pub fn iotlb_fd(&self, start: u64, last: u64) -> Result<Option<IotlbEntry>, DeviceError> {
        const OPERATION: &str = "VDUSE_IOTLB_GET_FD";
        let mut entry = VduseIotlbEntry {
            start,
            last,
            ..Default::default()
        };
        let fd = match ioctl::iotlb_get_fd(self.as_fd(), &mut entry) {
            Ok(fd) => fd,
            Err(Errno::EINVAL) => return Ok(None),
            Err(errno) => return Err(self.failed(OPERATION)(errno)),
        };
        Ok(Some(IotlbEntry {
            fd,
            offset: entry.offset,
            start: entry.start,
            last: entry.last,
            access: self.access(OPERATION, entry.perm)?,
        }))
    }

    /// The first region of address space 0 that overlaps `start..=last`, without a file
    /// (`VDUSE_IOTLB_GET_INFO`, Linux 6.0); `None` where nothing is mapped.
    pub fn iotlb_info(&self, start: u64, last: u64) -> Result<Option<IotlbInfo>, DeviceError> {
        self.address_space(0).iotlb_info(start, last)
    }

    /// The next message of the kernel; `None` when there is none now.
    ///
    /// Each must be answered with [`Device::reply`] within the device's `msg_timeout`, or the
    /// device is broken for good.
    pub fn receive(&self) -> Result<Option<Request>, DeviceError> {
        let mut bytes = [0; MESSAGE_SIZE];
        loop {
            match nix::unistd::read(&self.file, &mut bytes) {
                Ok(MESSAGE_SIZE) => return Ok(Some(Request::decode(&bytes))),
                Ok(_) => return Err(self.other("read", "the kernel gave a part of a message")),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.failed("read")(errno)),
            }
        }
    }

    /// Answers a message.
    ///
    /// [`DeviceError::RequestGone`] means that the kernel no longer waits: the message timed out,
    /// or the process behind it was killed.
    pub fn reply(&self, request: &Request, reply: Reply) -> Result<(), DeviceError> {
        let bytes = reply.encode(request);
        loop {
            match nix::unistd::write(&self.file, &bytes) {
                Ok(MESSAGE_SIZE) => return Ok(()),
                Ok(_) => return Err(self.other("write", "the kernel took a part of a reply")),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOENT) => {
                    return Err(DeviceError::RequestGone {
                        name: self.name.clone(),
                        id: request.id,
                    });
                }
                Err(errno) => return Err(self.failed("write")(errno)),
            }
        }
    }

    fn failed(&self, operation: &'static str) -> impl Fn(Errno) -> DeviceError + '_ {
        move |errno| DeviceError::new(&self.name, operation, errno)
    }

    fn access(&self, operation: &'static str, perm: u8) -> Result<Access, DeviceError> {
        Access::from_kernel(perm)
            .ok_or_else(|| self.other(operation, "the kernel gave an unknown permission"))
    }

    fn other(&self, operation: &'static str, reason: &'static str) -> DeviceError {
        let reason = io::Error::new(io::ErrorKind::InvalidData, reason);
        DeviceError::Other {
            name: self.name.clone(),
            operation,
            reason,
        }
    }
}

/// Opens a node, close-on-exec and non-blocking.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests;
