//! Why a device cannot be opened or refuses an operation.

use crate::Name;
use nix::errno::Errno;
use std::io;
use thiserror::Error;

/// Why a device cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or an earlier file of this one, has it open.
    #[error(
        "VDUSE device {name} is open in another process (a fork of it counts too); end that \
         process first"
    )]
    Busy {
        /// The name.
        name: Name,
    },
    /// There is no device of this name.
    #[error("VDUSE device {name} does not exist: /dev/vduse/{name} is missing; create it first")]
    Unknown {
        /// The name.
        name: Name,
    },
    /// Only root may open it unless a udev rule says otherwise.
    #[error(
        "VDUSE device {name}: /dev/vduse/{name} may not be opened by this user; run as \
         root, or add the udev rule SUBSYSTEM==\"vduse\", GROUP=\"...\", MODE=\"0660\""
    )]
    Permission {
        /// The name.
        name: Name,
    },
    /// Anything else.
    #[error("VDUSE device {name} cannot be opened: {reason}")]
    Other {
        /// The name.
        name: Name,
        /// What the kernel said.
        reason: io::Error,
    },
}

impl OpenError {
    pub(super) fn new(name: &Name, reason: io::Error) -> Self {
        let name = name.clone();
        match Errno::from_raw(reason.raw_os_error().unwrap_or(0)) {
            Errno::EBUSY => Self::Busy { name },
            Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => Self::Unknown { name },
            Errno::EACCES | Errno::EPERM => Self::Permission { name },
            _ => Self::Other { name, reason },
        }
    }
}

/// Why a device refuses an operation.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// A message was not answered in time; nothing but destroying the device helps.
    #[error(
        "VDUSE device {name}: {operation} refused: the device is broken because a message went \
         unanswered past msg_timeout; destroy it and create it again"
    )]
    Broken {
        /// The name.
        name: Name,
        /// The operation.
        operation: &'static str,
    },
    /// An argument is out of range, or the device is not in a state for it.
    #[error("VDUSE device {name}: {operation} refused (EINVAL): {hint}")]
    Invalid {
        /// The name.
        name: Name,
        /// The operation.
        operation: &'static str,
        /// What the kernel checks in this operation.
        hint: &'static str,
    },
    /// The kernel is too old for the operation, or the device's API version is.
    #[error("VDUSE device {name}: {operation} is not known to this kernel; it takes {needed}")]
    Unsupported {
        /// The name.
        name: Name,
        /// The operation.
        operation: &'static str,
        /// What has it.
        needed: &'static str,
    },
    /// The memory could not be pinned.
    #[error(
        "VDUSE device {name}: {operation} could not pin the memory (ENOMEM); raise RLIMIT_MEMLOCK \
         (ulimit -l) to at least the bounce size, root is bound by it too"
    )]
    MemoryLock {
        /// The name.
        name: Name,
        /// The operation.
        operation: &'static str,
    },
    /// Memory is registered already, by this process.
    #[error("VDUSE device {name}: memory is registered already; deregister it first")]
    UmemExists {
        /// The name.
        name: Name,
    },
    /// No memory is registered.
    #[error("VDUSE device {name}: no memory is registered; register it first")]
    UmemMissing {
        /// The name.
        name: Name,
    },
    /// The kernel no longer waits for this reply.
    #[error(
        "VDUSE device {name}: nobody waits for the reply to message {id}: it timed out or its \
         initiator was killed"
    )]
    RequestGone {
        /// The name.
        name: Name,
        /// The message.
        id: u32,
    },
    /// Anything else.
    #[error("VDUSE device {name}: {operation} failed: {reason}")]
    Other {
        /// The name.
        name: Name,
        /// The operation.
        operation: &'static str,
        /// What the kernel said.
        reason: io::Error,
    },
}

impl DeviceError {
    /// Sorts an errno of `operation`. Does not allocate: a queue's thread may come here.
    #[cold]
    pub(super) fn new(name: &Name, operation: &'static str, errno: Errno) -> Self {
        let name = name.clone();
        match errno {
            Errno::EPERM => Self::Broken { name, operation },
            Errno::EINVAL => Self::Invalid {
                name,
                operation,
                hint: hint(operation),
            },
            Errno::ENOTTY => Self::Unsupported {
                name,
                operation,
                needed: match operation {
                    "VDUSE_IOTLB_GET_FD2" => "Linux 7.0 and a device of API version 1",
                    _ => "Linux 6.0",
                },
            },
            Errno::ENOMEM if operation == "VDUSE_IOTLB_REG_UMEM" => {
                Self::MemoryLock { name, operation }
            }
            Errno::EEXIST if operation == "VDUSE_IOTLB_REG_UMEM" => Self::UmemExists { name },
            Errno::ENOENT if operation == "VDUSE_IOTLB_DEREG_UMEM" => Self::UmemMissing { name },
            _ => Self::Other {
                name,
                operation,
                reason: errno.into(),
            },
        }
    }
}

fn hint(operation: &str) -> &'static str {
    match operation {
        "VDUSE_DEV_SET_CONFIG" => {
            "the bytes must be at least one and lie inside the configuration space"
        }
        "VDUSE_DEV_INJECT_CONFIG_IRQ" => {
            "the driver has not set DRIVER_OK, or it suspended the device; wait until it sets it"
        }
        "VDUSE_VQ_INJECT_IRQ" => {
            "there is no such virtqueue, or the driver has not set DRIVER_OK, or it suspended the \
             device; wait until it sets it"
        }
        "VDUSE_VQ_SETUP" => {
            "there is no such virtqueue or group, or API version 1 and the driver has set DRIVER_OK; \
             create the device with more, and do it before"
        }
        "VDUSE_VQ_GET_INFO" => "there is no such virtqueue; create the device with more",
        "VDUSE_VQ_SETUP_KICKFD" => "there is no such virtqueue, or the file is no eventfd",
        "VDUSE_IOTLB_REG_UMEM" => {
            "give page-aligned memory for IOVA 0 and exactly bounce_size bytes, after the \
             driver's first request"
        }
        "VDUSE_IOTLB_DEREG_UMEM" => "give the IOVA and size that were registered",
        _ => "the kernel does not take these arguments now",
    }
}
