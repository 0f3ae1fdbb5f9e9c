//! Regions of I/O virtual address space.

use crate::abi::{
    VDUSE_ACCESS_RO, VDUSE_ACCESS_RW, VDUSE_ACCESS_WO, VDUSE_IOVA_CAP_UMEM, VduseIovaInfo,
};
use std::os::fd::OwnedFd;

/// What the device may do with a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read only.
    ReadOnly,
    /// Write only.
    WriteOnly,
    /// Read and write.
    ReadWrite,
}

impl Access {
    /// From the kernel's `perm`; `None` for a value it does not define.
    pub(crate) fn from_kernel(perm: u8) -> Option<Self> {
        match perm {
            VDUSE_ACCESS_RO => Some(Self::ReadOnly),
            VDUSE_ACCESS_WO => Some(Self::WriteOnly),
            VDUSE_ACCESS_RW => Some(Self::ReadWrite),
            _ => None,
        }
    }

    /// Whether the device may read.
    pub fn is_readable(self) -> bool {
        self != Self::WriteOnly
    }

    /// Whether the device may write.
    pub fn is_writable(self) -> bool {
        self != Self::ReadOnly
    }
}

/// A region of IOVA space and the file to map for it.
///
/// Map `last - start + 1` bytes of `fd` at `offset` with `MAP_SHARED`; the file may be closed once
/// it is mapped.
///
/// ```no_run
/// use vduse::Device;
///
/// let device = Device::open(&"d0".parse()?)?;
/// let mut next = Some(0);
/// while let Some(start) = next {
///     let Some(entry) = device.iotlb_fd(start, u64::MAX)? else { break };
///     let bytes = entry.last - entry.start + 1;
///     println!("{:#x}: {bytes} bytes at {:#x} of {:?}", entry.start, entry.offset, entry.fd);
///     next = entry.last.checked_add(1);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct IotlbEntry {
    /// The file, close-on-exec.
    pub fd: OwnedFd,
    /// Where `start` lies in the file, bytes.
    pub offset: u64,
    /// First IOVA.
    pub start: u64,
    /// Last IOVA, inclusive.
    pub last: u64,
    /// What the device may do with it. The file itself may allow more.
    pub access: Access,
}

/// A region of IOVA space without a file (`VDUSE_IOTLB_GET_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IotlbInfo {
    /// First IOVA.
    pub start: u64,
    /// Last IOVA, inclusive.
    pub last: u64,
    /// The region takes memory of the daemon ([`crate::Device::register_umem`]).
    pub umem: bool,
}

impl From<VduseIovaInfo> for IotlbInfo {
    fn from(info: VduseIovaInfo) -> Self {
        Self {
            start: info.start,
            last: info.last,
            umem: info.capability & VDUSE_IOVA_CAP_UMEM != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_the_kernels_permission() {
        let rights = |perm| Access::from_kernel(perm).map(|a| (a.is_readable(), a.is_writable()));
        assert_eq!(rights(1), Some((true, false)));
        assert_eq!(rights(2), Some((false, true)));
        assert_eq!(rights(3), Some((true, true)));
        assert_eq!((rights(0), rights(4)), (None, None));
    }

    #[test]
    fn umem_is_a_capability_bit() {
        let info = |capability| {
            IotlbInfo::from(VduseIovaInfo {
                capability,
                ..Default::default()
            })
        };
        assert!(info(1).umem && info(3).umem);
        assert!(!info(0).umem && !info(2).umem);
    }
}
