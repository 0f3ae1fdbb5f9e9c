//! The kernel's binary interface, word for word: `include/uapi/linux/vduse.h`, API versions 0 and 1.
//!
//! Field names are the header's. The layouts are checked when this crate is compiled; the ioctl
//! numbers by a unit test. Both versions have the same sizes: what API version 1 (Linux 7.0) added is
//! reserved in version 0, and must be zero there.

use nix::{request_code_none, request_code_read, request_code_readwrite, request_code_write};
use std::mem::size_of;

/// The type byte of every VDUSE ioctl.
pub const VDUSE_BASE: u8 = 0x81;
/// The first API version, for [`VDUSE_SET_API_VERSION`].
pub const VDUSE_API_VERSION: u64 = 0;
/// The API version with virtqueue groups and address spaces (Linux 7.0).
pub const VDUSE_API_VERSION_1: u64 = 1;
/// Bit of the protocol feature [`VDUSE_SET_VQ_READY`] (Linux 7.3).
pub const VDUSE_F_QUEUE_READY: u32 = 0;
/// Bit of the protocol feature [`VDUSE_SUSPEND`] (Linux 7.3).
pub const VDUSE_F_SUSPEND: u32 = 1;
/// Bytes of a device name with its terminating NUL.
pub const VDUSE_NAME_MAX: usize = 256;
/// The eventfd number that takes a kick eventfd away.
pub const VDUSE_EVENTFD_DEASSIGN: i32 = -1;

/// IOTLB permission: the device may read.
pub const VDUSE_ACCESS_RO: u8 = 1;
/// IOTLB permission: the device may write.
pub const VDUSE_ACCESS_WO: u8 = 2;
/// IOTLB permission: the device may read and write.
pub const VDUSE_ACCESS_RW: u8 = 3;
/// [`VduseIovaInfo::capability`]: the region can be replaced by memory of the daemon.
pub const VDUSE_IOVA_CAP_UMEM: u64 = 1;

/// Message: the state of a virtqueue is asked for.
pub const VDUSE_GET_VQ_STATE: u32 = 0;
/// Message: the driver writes the device status.
pub const VDUSE_SET_STATUS: u32 = 1;
/// Message: mappings in a range of IOVA changed.
pub const VDUSE_UPDATE_IOTLB: u32 = 2;
/// Message of API version 1: a virtqueue group gets another address space.
pub const VDUSE_SET_VQ_GROUP_ASID: u32 = 3;
/// Message of [`VDUSE_F_QUEUE_READY`]: the driver enables or disables a virtqueue.
pub const VDUSE_SET_VQ_READY: u32 = 4;
/// Message of [`VDUSE_F_SUSPEND`]: the device is to stand still until its reset.
pub const VDUSE_SUSPEND: u32 = 5;
/// Result of a reply: done.
pub const VDUSE_REQ_RESULT_OK: u32 = 0;
/// Result of a reply: refused.
pub const VDUSE_REQ_RESULT_FAILED: u32 = 1;

/// `struct vduse_dev_config`, without the configuration space that follows it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseDevConfig {
    /// The name, NUL-terminated.
    pub name: [u8; VDUSE_NAME_MAX],
    /// VIRTIO vendor id.
    pub vendor_id: u32,
    /// VIRTIO device id (2: block).
    pub device_id: u32,
    /// Feature bits offered.
    pub features: u64,
    /// Number of virtqueues.
    pub vq_num: u32,
    /// Alignment of the rings in bytes.
    pub vq_align: u32,
    /// Virtqueue groups, at least 1; 0 in API version 0.
    pub ngroups: u32,
    /// Address spaces, at least 1; 0 in API version 0.
    pub nas: u32,
    /// Zero.
    pub reserved: [u32; 11],
    /// Bytes of the configuration space.
    pub config_size: u32,
}

/// `struct vduse_iotlb_entry`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct VduseIotlbEntry {
    /// Offset of `start` in the file.
    pub offset: u64,
    /// First IOVA.
    pub start: u64,
    /// Last IOVA, inclusive.
    pub last: u64,
    /// `VDUSE_ACCESS_*`.
    pub perm: u8,
}

/// `struct vduse_iotlb_entry_v2` (API version 1).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct VduseIotlbEntryV2 {
    /// Offset of `start` in the file.
    pub offset: u64,
    /// First IOVA.
    pub start: u64,
    /// Last IOVA, inclusive.
    pub last: u64,
    /// `VDUSE_ACCESS_*`.
    pub perm: u8,
    /// Unspecified.
    pub padding: [u8; 7],
    /// The address space.
    pub asid: u32,
    /// Zero.
    pub reserved: [u32; 11],
}

/// `struct vduse_config_data`, without the data that follows it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseConfigData {
    /// First byte of the configuration space to write.
    pub offset: u32,
    /// Bytes to write.
    pub length: u32,
}

/// `struct vduse_vq_config`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct VduseVqConfig {
    /// The virtqueue.
    pub index: u32,
    /// Its largest size in descriptors.
    pub max_size: u16,
    /// Zero.
    pub reserved1: u16,
    /// Its group; 0 in API version 0.
    pub group: u32,
    /// Zero.
    pub reserved2: [u16; 10],
}

/// `struct vduse_vq_state_packed`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VduseVqStatePacked {
    /// Wrap counter of the driver's ring, 0 or 1.
    pub last_avail_counter: u16,
    /// Next descriptor to fetch.
    pub last_avail_idx: u16,
    /// Wrap counter of the device's ring, 0 or 1.
    pub last_used_counter: u16,
    /// Next descriptor to write back.
    pub last_used_idx: u16,
}

/// `struct vduse_vq_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct VduseVqInfo {
    /// The virtqueue.
    pub index: u32,
    /// Its size in descriptors, 0 while it is not ready.
    pub num: u32,
    /// IOVA of the descriptor area.
    pub desc_addr: u64,
    /// IOVA of the driver area (available ring).
    pub driver_addr: u64,
    /// IOVA of the device area (used ring).
    pub device_addr: u64,
    /// The union of both states; the split one is `last_avail_counter`'s place.
    pub state: VduseVqStatePacked,
    /// 1 once the driver has made the virtqueue ready.
    pub ready: u8,
}

/// `struct vduse_vq_eventfd`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseVqEventfd {
    /// The virtqueue.
    pub index: u32,
    /// An eventfd, or [`VDUSE_EVENTFD_DEASSIGN`].
    pub fd: i32,
}

/// `struct vduse_iova_umem`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct VduseIovaUmem {
    /// Address in the daemon, page-aligned.
    pub uaddr: u64,
    /// First IOVA.
    pub iova: u64,
    /// Bytes.
    pub size: u64,
    /// The address space; 0 in API version 0.
    pub asid: u32,
    /// Zero.
    pub reserved: [u32; 5],
}

/// `struct vduse_iova_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct VduseIovaInfo {
    /// First IOVA.
    pub start: u64,
    /// Last IOVA, inclusive.
    pub last: u64,
    /// `VDUSE_IOVA_CAP_*`.
    pub capability: u64,
    /// The address space; 0 in API version 0.
    pub asid: u32,
    /// Zero.
    pub reserved: [u32; 5],
}

/// `struct vduse_vq_state`, the payload of [`VDUSE_GET_VQ_STATE`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseVqState {
    /// The virtqueue.
    pub index: u32,
    /// The union of both states; the split one is `last_avail_counter`'s place.
    pub state: VduseVqStatePacked,
}

/// `struct vduse_iova_range_v2`, the payload of [`VDUSE_UPDATE_IOTLB`]. API version 0 ends after
/// `last`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseIovaRangeV2 {
    /// First IOVA.
    pub start: u64,
    /// Last IOVA, inclusive.
    pub last: u64,
    /// The address space.
    pub asid: u32,
    /// Zero.
    pub padding: u32,
}

/// `struct vduse_vq_group_asid`, the payload of [`VDUSE_SET_VQ_GROUP_ASID`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseVqGroupAsid {
    /// The virtqueue group.
    pub group: u32,
    /// Its address space.
    pub asid: u32,
}

/// `struct vduse_vq_ready`, the payload of [`VDUSE_SET_VQ_READY`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseVqReady {
    /// The virtqueue.
    pub num: u32,
    /// 1 to enable it, 0 to disable it.
    pub ready: u32,
}

/// `struct vduse_dev_request`: what one `read` of the device gives.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseDevRequest {
    /// The message, one of `VDUSE_GET_VQ_STATE` to `VDUSE_SUSPEND`.
    pub kind: u32,
    /// To be repeated in the reply.
    pub request_id: u32,
    /// Unspecified.
    pub reserved: [u32; 4],
    /// [`VduseVqState`], a status byte, [`VduseIovaRangeV2`], [`VduseVqGroupAsid`] or
    /// [`VduseVqReady`].
    pub payload: [u32; 32],
}

/// `struct vduse_dev_response`: what one `write` of the device takes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct VduseDevResponse {
    /// The request's.
    pub request_id: u32,
    /// `VDUSE_REQ_RESULT_*`.
    pub result: u32,
    /// Zero, or the kernel refuses the reply.
    pub reserved: [u32; 4],
    /// [`VduseVqState`] or zeroes.
    pub payload: [u32; 32],
}

/// Bytes of a request and of a reply.
pub const MESSAGE_SIZE: usize = size_of::<VduseDevRequest>();

/// Reads the API version of this control file (u64).
pub const VDUSE_GET_API_VERSION: libc::Ioctl =
    request_code_read!(VDUSE_BASE, 0x00, size_of::<u64>());
/// Sets the API version of devices created through this control file (u64).
pub const VDUSE_SET_API_VERSION: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x01, size_of::<u64>());
/// Creates a device ([`VduseDevConfig`]).
pub const VDUSE_CREATE_DEV: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x02, size_of::<VduseDevConfig>());
/// Destroys a device (its name, NUL-terminated, in 256 bytes).
pub const VDUSE_DESTROY_DEV: libc::Ioctl = request_code_write!(VDUSE_BASE, 0x03, VDUSE_NAME_MAX);
/// Reads the protocol features of this kernel (u64, Linux 7.3).
pub const VDUSE_GET_FEATURES: libc::Ioctl = request_code_read!(VDUSE_BASE, 0x04, size_of::<u64>());
/// Sets the protocol features of devices created through this control file (u64, Linux 7.3).
pub const VDUSE_SET_FEATURES: libc::Ioctl = request_code_write!(VDUSE_BASE, 0x05, size_of::<u64>());
/// Gives a file for the first region in a range ([`VduseIotlbEntry`]).
pub const VDUSE_IOTLB_GET_FD: libc::Ioctl =
    request_code_readwrite!(VDUSE_BASE, 0x10, size_of::<VduseIotlbEntry>());
/// Reads the negotiated feature bits (u64).
pub const VDUSE_DEV_GET_FEATURES: libc::Ioctl =
    request_code_read!(VDUSE_BASE, 0x11, size_of::<u64>());
/// Writes to the configuration space ([`VduseConfigData`]).
pub const VDUSE_DEV_SET_CONFIG: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x12, size_of::<VduseConfigData>());
/// Raises the configuration interrupt.
pub const VDUSE_DEV_INJECT_CONFIG_IRQ: libc::Ioctl = request_code_none!(VDUSE_BASE, 0x13);
/// Sets a virtqueue up ([`VduseVqConfig`]).
pub const VDUSE_VQ_SETUP: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x14, size_of::<VduseVqConfig>());
/// Reads what the driver made of a virtqueue ([`VduseVqInfo`]).
pub const VDUSE_VQ_GET_INFO: libc::Ioctl =
    request_code_readwrite!(VDUSE_BASE, 0x15, size_of::<VduseVqInfo>());
/// Sets or takes away the kick eventfd of a virtqueue ([`VduseVqEventfd`]).
pub const VDUSE_VQ_SETUP_KICKFD: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x16, size_of::<VduseVqEventfd>());
/// Raises the interrupt of a virtqueue (u32).
pub const VDUSE_VQ_INJECT_IRQ: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x17, size_of::<u32>());
/// Replaces the bounce pages by memory of the daemon ([`VduseIovaUmem`], Linux 6.0).
pub const VDUSE_IOTLB_REG_UMEM: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x18, size_of::<VduseIovaUmem>());
/// Goes back to the kernel's bounce pages ([`VduseIovaUmem`], Linux 6.0).
pub const VDUSE_IOTLB_DEREG_UMEM: libc::Ioctl =
    request_code_write!(VDUSE_BASE, 0x19, size_of::<VduseIovaUmem>());
/// Describes the first region in a range ([`VduseIovaInfo`], Linux 6.0).
pub const VDUSE_IOTLB_GET_INFO: libc::Ioctl =
    request_code_readwrite!(VDUSE_BASE, 0x1a, size_of::<VduseIovaInfo>());
/// Gives a file for the first region in a range of an address space ([`VduseIotlbEntryV2`], API version
/// 1).
pub const VDUSE_IOTLB_GET_FD2: libc::Ioctl =
    request_code_readwrite!(VDUSE_BASE, 0x1b, size_of::<VduseIotlbEntryV2>());

mod layout;
