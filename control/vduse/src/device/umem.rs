//! Memory of the daemon in place of the kernel's bounce pages.

#![allow(unsafe_code)]

use super::{AddressSpace, Device, DeviceError};
use crate::abi::VduseIovaUmem;
use crate::ioctl;
use std::os::fd::AsFd;
use std::ptr::NonNull;

impl Device {
    /// Replaces the kernel's bounce pages at `iova` by memory of this process
    /// (`VDUSE_IOTLB_REG_UMEM`, Linux 6.0).
    ///
    /// The kernel takes exactly the whole bounce region (`iova` 0, `size` its
    /// [`crate::sysfs::Sysfs::bounce_size_bytes`]), page-aligned, and only once the driver has
    /// mapped its first request. The pages are pinned and count against `RLIMIT_MEMLOCK`, for root
    /// too ([`DeviceError::MemoryLock`]). The registration survives a reset; closing the device or
    /// [`Device::deregister_umem`] ends it.
    ///
    /// # Safety
    /// `memory` must be the start of `size` bytes that this process has mapped and may write. Until
    /// the registration ends, the kernel writes to them at any time: no Rust reference may cover
    /// them, and they are read through atomic or volatile accesses only.
    pub unsafe fn register_umem(
        &self,
        memory: NonNull<u8>,
        iova: u64,
        size: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller promises the same.
        unsafe { self.address_space(0).register_umem(memory, iova, size) }
    }

    /// Goes back to the kernel's bounce pages; what is in use is copied over
    /// (`VDUSE_IOTLB_DEREG_UMEM`, Linux 6.0).
    pub fn deregister_umem(&self, iova: u64, size: u64) -> Result<(), DeviceError> {
        self.address_space(0).deregister_umem(iova, size)
    }
}

impl AddressSpace<'_> {
    /// As [`Device::register_umem`], in this address space.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn register_umem(
        &self,
        memory: NonNull<u8>,
        iova: u64,
        size: u64,
    ) -> Result<(), DeviceError> {
        let umem = VduseIovaUmem {
            uaddr: memory.as_ptr().expose_provenance() as u64,
            iova,
            size,
            asid: self.asid,
            ..Default::default()
        };
        // SAFETY: the caller promises what `iotlb_reg_umem` asks of the memory at `uaddr`.
        unsafe { ioctl::iotlb_reg_umem(self.device.as_fd(), &umem) }
            .map_err(self.device.failed("VDUSE_IOTLB_REG_UMEM"))
    }

    /// As [`Device::deregister_umem`], in this address space.
    pub fn deregister_umem(&self, iova: u64, size: u64) -> Result<(), DeviceError> {
        let umem = VduseIovaUmem {
            iova,
            size,
            asid: self.asid,
            ..Default::default()
        };
        ioctl::iotlb_dereg_umem(self.device.as_fd(), &umem)
            .map_err(self.device.failed("VDUSE_IOTLB_DEREG_UMEM"))
    }
}
