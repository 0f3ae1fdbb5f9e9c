//! The ioctls and messages of vhost-vdpa (linux/vhost.h, linux/vhost_types.h).

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Queue, SharedMemory};

pub(crate) const FEATURES_OK: u8 = 8;
pub(crate) const DRIVER_OK: u8 = 4;

const BACKEND_F_IOTLB_MSG_V2: u64 = 1 << 1;
const BACKEND_F_IOTLB_ASID: u64 = 1 << 3;
const IOTLB_MSG_V2: u32 = 2;
const IOTLB_UPDATE: u8 = 2;
const IOTLB_INVALIDATE: u8 = 3;
const ACCESS_RW: u8 = 3;

/// `struct vhost_vring_state`, and `struct vhost_vring_file` with a file descriptor in `value`.
#[repr(C)]
pub(super) struct VringState {
    index: u32,
    value: u32,
}

/// `struct vhost_vring_addr`; with vDPA the addresses are those of the device.
#[repr(C)]
pub(super) struct VringAddr {
    index: u32,
    flags: u32,
    descriptors: u64,
    used: u64,
    avail: u64,
    log: u64,
}

/// `struct vhost_vdpa_config` with room for a capacity.
#[repr(C)]
struct Config {
    /// Offset and length.
    part: [u32; 2],
    bytes: [u8; 8],
}

mod ioctl {
    use super::{VringAddr, VringState};
    use nix::{ioctl_none, ioctl_read, ioctl_readwrite, ioctl_write_ptr};

    ioctl_write_ptr!(set_features, 0xaf, 0x00, u64);
    ioctl_none!(set_owner, 0xaf, 0x01);
    ioctl_write_ptr!(set_vring_num, 0xaf, 0x10, VringState);
    ioctl_write_ptr!(set_vring_addr, 0xaf, 0x11, VringAddr);
    ioctl_write_ptr!(set_vring_base, 0xaf, 0x12, VringState);
    ioctl_readwrite!(get_vring_base, 0xaf, 0x12, VringState);
    ioctl_write_ptr!(set_vring_kick, 0xaf, 0x20, VringState);
    ioctl_write_ptr!(set_backend_features, 0xaf, 0x25, u64);
    ioctl_read!(get_status, 0xaf, 0x71, u8);
    ioctl_write_ptr!(set_status, 0xaf, 0x72, u8);
    ioctl_read!(get_config, 0xaf, 0x73, [u32; 2]);
    ioctl_write_ptr!(set_vring_enable, 0xaf, 0x75, VringState);
    ioctl_read!(get_as_num, 0xaf, 0x7a, u32);
    ioctl_write_ptr!(set_group_asid, 0xaf, 0x7c, VringState);
    ioctl_none!(suspend, 0xaf, 0x7d);
    ioctl_none!(resume, 0xaf, 0x7e);
    ioctl_read!(get_group_num, 0xaf, 0x81, u32);
}

/// The open node of a device.
#[derive(Debug)]
pub(crate) struct Kernel(File);

impl Kernel {
    pub(crate) fn open(node: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(node);
        let file = file.unwrap_or_else(|e| panic!("{}: {e}", node.display()));
        // SAFETY: takes no argument.
        unsafe { ioctl::set_owner(file.as_raw_fd()) }.expect("VHOST_SET_OWNER");
        let features = BACKEND_F_IOTLB_MSG_V2 | BACKEND_F_IOTLB_ASID;
        // SAFETY: the kernel reads one u64.
        unsafe { ioctl::set_backend_features(file.as_raw_fd(), &features) }
            .expect("VHOST_SET_BACKEND_FEATURES");
        Self(file)
    }

    pub(crate) fn set_status(&self, status: u8) {
        // SAFETY: the kernel reads one byte.
        unsafe { ioctl::set_status(self.0.as_raw_fd(), &status) }.expect("VHOST_VDPA_SET_STATUS");
    }

    pub(crate) fn status(&self) -> u8 {
        let mut status = 0;
        // SAFETY: the kernel writes one byte.
        unsafe { ioctl::get_status(self.0.as_raw_fd(), &mut status) }
            .expect("VHOST_VDPA_GET_STATUS");
        status
    }

    pub(crate) fn set_features(&self, features: u64) {
        // SAFETY: the kernel reads one u64.
        unsafe { ioctl::set_features(self.0.as_raw_fd(), &features) }.expect("VHOST_SET_FEATURES");
    }

    /// Returns the capacity in the configuration space, in sectors.
    pub(crate) fn capacity_sectors(&self) -> u64 {
        let mut config = Config {
            part: [0, 8],
            bytes: [0; 8],
        };
        let whole: *mut Config = &mut config;
        // SAFETY: the kernel reads the part and writes as many bytes behind it.
        unsafe { ioctl::get_config(self.0.as_raw_fd(), whole.cast()) }
            .expect("VHOST_VDPA_GET_CONFIG");
        u64::from_le_bytes(config.bytes)
    }

    /// Tells the device where `queue` is. Returns the eventfd that kicks it.
    pub(crate) fn set_queue(&self, queue: &Queue) -> OwnedFd {
        let fd = self.0.as_raw_fd();
        let index = u32::from(queue.index());
        let state = |value| VringState { index, value };
        let [descriptors, avail, used] = queue.areas();
        let (flags, log) = (0, 0);
        let areas = VringAddr {
            index,
            flags,
            descriptors,
            used,
            avail,
            log,
        };
        let kick = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).expect("an eventfd");
        let kick = OwnedFd::from(kick);
        let kick_fd = kick.as_raw_fd().cast_unsigned();
        // SAFETY: the kernel reads one structure of the type that each of them takes.
        let set = unsafe {
            ioctl::set_vring_num(fd, &state(u32::from(super::queue::SIZE)))
                .and_then(|_| ioctl::set_vring_base(fd, &state(0)))
                .and_then(|_| ioctl::set_vring_addr(fd, &areas))
                .and_then(|_| ioctl::set_vring_kick(fd, &state(kick_fd)))
        };
        set.expect("VHOST_SET_VRING_*");
        kick
    }

    /// Enables or disables queue `index`.
    pub(crate) fn enable(&self, index: u32, enabled: bool) {
        let value = u32::from(enabled);
        // SAFETY: the kernel reads one structure.
        unsafe { ioctl::set_vring_enable(self.0.as_raw_fd(), &VringState { index, value }) }
            .expect("VHOST_VDPA_SET_VRING_ENABLE");
    }

    /// Suspends the device.
    pub(crate) fn suspend(&self) -> nix::Result<()> {
        // SAFETY: takes no argument.
        unsafe { ioctl::suspend(self.0.as_raw_fd()) }.map(drop)
    }

    /// Has a suspended device go on.
    pub(crate) fn resume(&self) -> nix::Result<()> {
        // SAFETY: takes no argument.
        unsafe { ioctl::resume(self.0.as_raw_fd()) }.map(drop)
    }

    /// Returns how many virtqueue groups and how many address spaces the device has.
    pub(crate) fn groups_and_address_spaces(&self) -> (u32, u32) {
        let (mut groups, mut address_spaces) = (0, 0);
        // SAFETY: the kernel writes one u32 each.
        let read = unsafe {
            ioctl::get_group_num(self.0.as_raw_fd(), &mut groups)
                .and_then(|_| ioctl::get_as_num(self.0.as_raw_fd(), &mut address_spaces))
        };
        read.expect("VHOST_VDPA_GET_GROUP_NUM, VHOST_VDPA_GET_AS_NUM");
        (groups, address_spaces)
    }

    /// Gives virtqueue group `index` the address space `value`.
    pub(crate) fn set_group_asid(&self, index: u32, value: u32) -> nix::Result<()> {
        // SAFETY: the kernel reads one structure.
        unsafe { ioctl::set_group_asid(self.0.as_raw_fd(), &VringState { index, value }) }.map(drop)
    }

    /// Returns the index of the next avail entry that the device will take.
    pub(crate) fn vring_base(&self, index: u32) -> nix::Result<u32> {
        let mut state = VringState { index, value: 0 };
        // SAFETY: the kernel reads and writes one structure.
        unsafe { ioctl::get_vring_base(self.0.as_raw_fd(), &mut state) }?;
        Ok(state.value)
    }

    /// Maps all of `memory` for the device, from `iova` on.
    pub(crate) fn map(&mut self, iova: u64, memory: &SharedMemory) {
        self.map_in(0, iova, memory);
    }

    /// Does so in address space `asid`.
    pub(crate) fn map_in(&mut self, asid: u32, iova: u64, memory: &SharedMemory) {
        self.send(asid, iova, memory.bytes(), memory.address(), IOTLB_UPDATE)
            .expect("VHOST_IOTLB_UPDATE");
    }

    /// Unmaps what was mapped there, if anything.
    pub(crate) fn unmap(&mut self, iova: u64, bytes: u64) {
        self.send(0, iova, bytes, 0, IOTLB_INVALIDATE)
            .expect("VHOST_IOTLB_INVALIDATE");
    }

    /// Writes one `struct vhost_msg_v2`.
    fn send(
        &mut self,
        asid: u32,
        iova: u64,
        bytes: u64,
        address: u64,
        kind: u8,
    ) -> std::io::Result<()> {
        let mut message = [0; 72];
        message[..4].copy_from_slice(&IOTLB_MSG_V2.to_ne_bytes());
        message[4..8].copy_from_slice(&asid.to_ne_bytes());
        for (place, value) in [(8, iova), (16, bytes), (24, address)] {
            message[place..place + 8].copy_from_slice(&value.to_ne_bytes());
        }
        message[32..34].copy_from_slice(&[ACCESS_RW, kind]);
        self.0.write_all(&message)
    }
}
