//! One of the address spaces of a device (API version 1, Linux 7.0).

use super::{Device, DeviceError};
use crate::abi::{VduseIotlbEntryV2, VduseIovaInfo};
use crate::{IotlbEntry, IotlbInfo, ioctl};
use nix::errno::Errno;
use std::os::fd::AsFd;

/// An address space of a device. Virtqueue groups share them as the driver says
/// ([`crate::RequestKind::SetGroupAsid`]); each has its own regions and bounce buffers.
#[derive(Debug, Clone, Copy)]
pub struct AddressSpace<'device> {
    pub(super) device: &'device Device,
    pub(super) asid: u32,
}

impl AddressSpace<'_> {
    /// The first region that overlaps `start..=last`, and a file to map it with
    /// (`VDUSE_IOTLB_GET_FD2`); `None` where nothing is mapped, or where there is no such address space.
    ///
    /// [`DeviceError::Unsupported`] for a device that was created with API version 0:
    /// [`Device::iotlb_fd`] does the same for the only address space that it has. The same holds for the file.
    pub fn iotlb_fd(&self, start: u64, last: u64) -> Result<Option<IotlbEntry>, DeviceError> {
        const OPERATION: &str = "VDUSE_IOTLB_GET_FD2";
        let mut entry = VduseIotlbEntryV2 {
            start,
            last,
            asid: self.asid,
            ..Default::default()
        };
        let fd = match ioctl::iotlb_get_fd2(self.device.as_fd(), &mut entry) {
            Ok(fd) => fd,
            Err(Errno::EINVAL) => return Ok(None),
            Err(errno) => return Err(self.device.failed(OPERATION)(errno)),
        };
        Ok(Some(IotlbEntry {
            fd,
            offset: entry.offset,
            start: entry.start,
            last: entry.last,
            access: self.device.access(OPERATION, entry.perm)?,
        }))
    }

    /// The first region that overlaps `start..=last`, without a file (`VDUSE_IOTLB_GET_INFO`,
    /// Linux 6.0); `None` where nothing is mapped.
    ///
    /// Linux 7 answers EFAULT ([`DeviceError::Other`]) where there is no such address space.
    pub fn iotlb_info(&self, start: u64, last: u64) -> Result<Option<IotlbInfo>, DeviceError> {
        let mut info = VduseIovaInfo {
            start,
            last,
            asid: self.asid,
            ..Default::default()
        };
        match ioctl::iotlb_get_info(self.device.as_fd(), &mut info) {
            Ok(()) => Ok(Some(info.into())),
            Err(Errno::EINVAL) => Ok(None),
            Err(errno) => Err(self.device.failed("VDUSE_IOTLB_GET_INFO")(errno)),
        }
    }
}
