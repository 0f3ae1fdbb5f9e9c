//! The ioctls as safe functions over file descriptors, one each, and nothing more.

#![allow(unsafe_code)]

use crate::abi::{
    self, VduseIotlbEntry, VduseIotlbEntryV2, VduseIovaInfo, VduseIovaUmem, VduseVqInfo,
};
use crate::abi::{VduseConfigData, VduseDevConfig, VduseVqConfig, VduseVqEventfd};
use nix::errno::Errno;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

type Result<T> = std::result::Result<T, Errno>;

mod raw {
    //! The kernel's calling convention. Each takes a pointer to the type that the number encodes.
    #![allow(unreachable_pub, missing_docs)]

    use super::abi::*;
    nix::ioctl_read_bad!(get_api_version, VDUSE_GET_API_VERSION, u64);
    nix::ioctl_write_ptr_bad!(set_api_version, VDUSE_SET_API_VERSION, u64);
    nix::ioctl_write_ptr_bad!(destroy_dev, VDUSE_DESTROY_DEV, [u8; VDUSE_NAME_MAX]);
    nix::ioctl_read_bad!(get_features, VDUSE_GET_FEATURES, u64);
    nix::ioctl_write_ptr_bad!(set_features, VDUSE_SET_FEATURES, u64);
    nix::ioctl_readwrite_bad!(iotlb_get_fd, VDUSE_IOTLB_GET_FD, VduseIotlbEntry);
    nix::ioctl_readwrite_bad!(iotlb_get_fd2, VDUSE_IOTLB_GET_FD2, VduseIotlbEntryV2);
    nix::ioctl_read_bad!(dev_get_features, VDUSE_DEV_GET_FEATURES, u64);
    nix::ioctl_none_bad!(dev_inject_config_irq, VDUSE_DEV_INJECT_CONFIG_IRQ);
    nix::ioctl_write_ptr_bad!(vq_setup, VDUSE_VQ_SETUP, VduseVqConfig);
    nix::ioctl_readwrite_bad!(vq_get_info, VDUSE_VQ_GET_INFO, VduseVqInfo);
    nix::ioctl_write_ptr_bad!(vq_setup_kickfd, VDUSE_VQ_SETUP_KICKFD, VduseVqEventfd);
    nix::ioctl_write_ptr_bad!(vq_inject_irq, VDUSE_VQ_INJECT_IRQ, u32);
    nix::ioctl_write_ptr_bad!(iotlb_reg_umem, VDUSE_IOTLB_REG_UMEM, VduseIovaUmem);
    nix::ioctl_write_ptr_bad!(iotlb_dereg_umem, VDUSE_IOTLB_DEREG_UMEM, VduseIovaUmem);
    nix::ioctl_readwrite_bad!(iotlb_get_info, VDUSE_IOTLB_GET_INFO, VduseIovaInfo);
}

/// `VDUSE_GET_API_VERSION`.
pub(crate) fn get_api_version(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut version = 0;
    // SAFETY: the kernel writes one u64, which `version` is.
    unsafe { raw::get_api_version(fd.as_raw_fd(), &mut version) }?;
    Ok(version)
}

/// `VDUSE_SET_API_VERSION`.
pub(crate) fn set_api_version(fd: BorrowedFd<'_>, version: u64) -> Result<()> {
    // SAFETY: the kernel reads one u64, which `version` is.
    unsafe { raw::set_api_version(fd.as_raw_fd(), &version) }.map(drop)
}

/// `VDUSE_GET_FEATURES`.
pub(crate) fn get_features(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut features = 0;
    // SAFETY: the kernel writes one u64, which `features` is.
    unsafe { raw::get_features(fd.as_raw_fd(), &mut features) }?;
    Ok(features)
}

/// `VDUSE_SET_FEATURES`.
pub(crate) fn set_features(fd: BorrowedFd<'_>, features: u64) -> Result<()> {
    // SAFETY: the kernel reads one u64, which `features` is.
    unsafe { raw::set_features(fd.as_raw_fd(), &features) }.map(drop)
}

/// `VDUSE_CREATE_DEV` with an encoded `struct vduse_dev_config` and the configuration space that
/// its `config_size` announces. EINVAL if `config` is shorter than that.
pub(crate) fn create_dev(fd: BorrowedFd<'_>, config: &[u8]) -> Result<()> {
    const CONFIG_SIZE: usize = std::mem::offset_of!(VduseDevConfig, config_size);
    let header = config
        .first_chunk::<{ size_of::<VduseDevConfig>() }>()
        .ok_or(Errno::EINVAL)?;
    let announced = header[CONFIG_SIZE..]
        .first_chunk()
        .map(|size| u32::from_ne_bytes(*size));
    let follows = config.len() - header.len();
    if announced.is_none_or(|announced| announced as usize > follows) {
        return Err(Errno::EINVAL);
    }
    // SAFETY: the kernel reads the 336 bytes of the structure and the `config_size` bytes after it;
    // both were just checked to lie in `config`.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), abi::VDUSE_CREATE_DEV, config.as_ptr()) })
        .map(drop)
}

/// `VDUSE_DESTROY_DEV`.
pub(crate) fn destroy_dev(fd: BorrowedFd<'_>, name: &[u8; abi::VDUSE_NAME_MAX]) -> Result<()> {
    // SAFETY: the kernel reads 256 bytes, which `name` is.
    unsafe { raw::destroy_dev(fd.as_raw_fd(), name) }.map(drop)
}

/// `VDUSE_IOTLB_GET_FD`: overwrites `entry` and returns the file, already close-on-exec.
pub(crate) fn iotlb_get_fd(fd: BorrowedFd<'_>, entry: &mut VduseIotlbEntry) -> Result<OwnedFd> {
    // SAFETY: the kernel reads and writes one `vduse_iotlb_entry`, which `entry` is.
    let file = unsafe { raw::iotlb_get_fd(fd.as_raw_fd(), entry) }?;
    received(file)
}

/// `VDUSE_IOTLB_GET_FD2`: overwrites `entry` and returns the file, already close-on-exec.
pub(crate) fn iotlb_get_fd2(fd: BorrowedFd<'_>, entry: &mut VduseIotlbEntryV2) -> Result<OwnedFd> {
    // SAFETY: the kernel reads and writes one `vduse_iotlb_entry_v2`, which `entry` is.
    let file = unsafe { raw::iotlb_get_fd2(fd.as_raw_fd(), entry) }?;
    received(file)
}

/// Takes the file with the number that an ioctl gave.
fn received(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: the kernel just installed this number for us and nothing else knows it.
    let file = unsafe { OwnedFd::from_raw_fd(number) };
    // The kernel installs the file without O_CLOEXEC.
    nix::fcntl::fcntl(
        &file,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )?;
    Ok(file)
}

/// `VDUSE_DEV_GET_FEATURES`.
pub(crate) fn dev_get_features(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut features = 0;
    // SAFETY: the kernel writes one u64, which `features` is.
    unsafe { raw::dev_get_features(fd.as_raw_fd(), &mut features) }?;
    Ok(features)
}

/// `VDUSE_DEV_SET_CONFIG`.
pub(crate) fn dev_set_config(fd: BorrowedFd<'_>, offset: u32, data: &[u8]) -> Result<()> {
    let length = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
    let mut argument = Vec::with_capacity(size_of::<VduseConfigData>() + data.len());
    argument.extend_from_slice(&offset.to_ne_bytes());
    argument.extend_from_slice(&length.to_ne_bytes());
    argument.extend_from_slice(data);
    // SAFETY: the kernel reads offset and length, then `length` bytes; `argument` holds both.
    Errno::result(unsafe {
        libc::ioctl(fd.as_raw_fd(), abi::VDUSE_DEV_SET_CONFIG, argument.as_ptr())
    })
    .map(drop)
}

/// `VDUSE_DEV_INJECT_CONFIG_IRQ`.
pub(crate) fn dev_inject_config_irq(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: this ioctl takes no argument.
    unsafe { raw::dev_inject_config_irq(fd.as_raw_fd()) }.map(drop)
}

/// `VDUSE_VQ_SETUP`.
pub(crate) fn vq_setup(fd: BorrowedFd<'_>, config: &VduseVqConfig) -> Result<()> {
    // SAFETY: the kernel reads one `vduse_vq_config`, which `config` is; it has no padding.
    unsafe { raw::vq_setup(fd.as_raw_fd(), config) }.map(drop)
}

/// `VDUSE_VQ_GET_INFO` of `info.index`.
pub(crate) fn vq_get_info(fd: BorrowedFd<'_>, info: &mut VduseVqInfo) -> Result<()> {
    // SAFETY: the kernel reads and writes one `vduse_vq_info`, which `info` is.
    unsafe { raw::vq_get_info(fd.as_raw_fd(), info) }.map(drop)
}

/// `VDUSE_VQ_SETUP_KICKFD`; `None` takes the eventfd away.
pub(crate) fn vq_setup_kickfd(
    fd: BorrowedFd<'_>,
    index: u32,
    kick: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let kick = kick.map_or(abi::VDUSE_EVENTFD_DEASSIGN, |kick| kick.as_raw_fd());
    let eventfd = VduseVqEventfd { index, fd: kick };
    // SAFETY: the kernel reads one `vduse_vq_eventfd`, which `eventfd` is, and takes a reference of
    // its own to the file.
    unsafe { raw::vq_setup_kickfd(fd.as_raw_fd(), &eventfd) }.map(drop)
}

/// `VDUSE_VQ_INJECT_IRQ`.
#[inline]
pub(crate) fn vq_inject_irq(fd: BorrowedFd<'_>, index: u32) -> Result<()> {
    // SAFETY: the kernel reads one u32, which `index` is.
    unsafe { raw::vq_inject_irq(fd.as_raw_fd(), &index) }.map(drop)
}

/// `VDUSE_IOTLB_REG_UMEM`.
///
/// # Safety
/// From now until the memory is given back, the kernel writes to `umem.uaddr` on behalf of the
/// driver: the memory must be mapped, writable and not covered by any Rust reference.
pub(crate) unsafe fn iotlb_reg_umem(fd: BorrowedFd<'_>, umem: &VduseIovaUmem) -> Result<()> {
    // SAFETY: the kernel reads one `vduse_iova_umem`, which `umem` is; the caller vouches for the
    // memory that it names.
    unsafe { raw::iotlb_reg_umem(fd.as_raw_fd(), umem) }.map(drop)
}

/// `VDUSE_IOTLB_DEREG_UMEM`.
pub(crate) fn iotlb_dereg_umem(fd: BorrowedFd<'_>, umem: &VduseIovaUmem) -> Result<()> {
    // SAFETY: the kernel reads one `vduse_iova_umem`, which `umem` is, and gives memory back.
    unsafe { raw::iotlb_dereg_umem(fd.as_raw_fd(), umem) }.map(drop)
}

/// `VDUSE_IOTLB_GET_INFO` of the range in `info`.
pub(crate) fn iotlb_get_info(fd: BorrowedFd<'_>, info: &mut VduseIovaInfo) -> Result<()> {
    // SAFETY: the kernel reads and writes one `vduse_iova_info`, which `info` is.
    unsafe { raw::iotlb_get_info(fd.as_raw_fd(), info) }.map(drop)
}
