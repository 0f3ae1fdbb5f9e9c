//! Why a device could not be attached or detached.

use super::Driver;
use std::io;
use std::path::PathBuf;
use thiserror::Error;
use vduse::Name;

/// Why a device could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The kernel has no vDPA bus, or it cannot be reached from this network namespace.
    #[error(
        "cannot attach {name}: the kernel offers no vdpa netlink family here; run: modprobe vduse, \
         and work in the host's own network namespace"
    )]
    NoBus {
        /// The device.
        name: Name,
    },
    /// The driver's module is not loaded.
    #[error(
        "cannot attach {name}: driver {0} is not loaded; run: modprobe {0}", driver.module()
    )]
    DriverMissing {
        /// The device.
        name: Name,
        /// The driver.
        driver: Driver,
    },
    /// There is no VDUSE device of this name.
    #[error(
        "cannot attach {name}: there is no such VDUSE device; serve it first \
         (ls /dev/vduse shows those that exist)"
    )]
    Unknown {
        /// The device.
        name: Name,
    },
    /// It is on the bus already.
    #[error("cannot attach {name}: it is attached already{}; detach it first", by(*.driver))]
    AlreadyAttached {
        /// The device.
        name: Name,
        /// The driver that has it.
        driver: Option<Driver>,
    },
    /// The kernel refused it.
    #[error(
        "cannot attach {name}: the kernel refused it{}; every virtqueue must be set up first, and \
         the module vduse loaded", because(.explanation)
    )]
    Refused {
        /// The device.
        name: Name,
        /// What the kernel said of it.
        explanation: Option<String>,
    },
    /// Not allowed.
    #[error(
        "cannot attach {name}: not allowed; run as root with CAP_NET_ADMIN in the host's own user \
         and network namespace"
    )]
    Permission {
        /// The device.
        name: Name,
    },
    /// The driver took the device and made no disk of it.
    #[error(
        "cannot attach {name}: no disk appeared (device status {status:#04x}): the daemon refused \
         the driver's features or did not answer; see dmesg and the daemon's log"
    )]
    NoDisk {
        /// The device.
        name: Name,
        /// The VIRTIO device status as the host sees it.
        status: u8,
    },
    /// Nothing makes disks of virtio devices.
    #[error(
        "cannot attach {name}: no disk appeared: virtio_blk is not loaded; run: modprobe virtio_blk"
    )]
    NoDiskDriver {
        /// The device.
        name: Name,
    },
    /// The driver took the device and made no character device of it.
    #[error("cannot attach {name}: {} made no node; see dmesg", driver.module())]
    NoNode {
        /// The device.
        name: Name,
        /// The driver.
        driver: Driver,
    },
    /// What its last attach left is in the way, and could not be cleared.
    #[error("cannot attach {name}: it could not be made anew for it: {reason}")]
    Stale {
        /// The device.
        name: Name,
        /// Why.
        reason: String,
    },
    /// A file in sysfs could not be used.
    #[error("cannot attach {name}: {}: {reason}", path.display())]
    Sysfs {
        /// The device.
        name: Name,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
    /// Anything else that netlink said.
    #[error("cannot attach {name}: netlink: {reason}")]
    Netlink {
        /// The device.
        name: Name,
        /// What was said.
        reason: String,
    },
}

/// Why a device could not be detached.
#[derive(Debug, Error)]
pub enum DetachError {
    /// It is not on the bus.
    #[error("cannot detach {name}: it is not attached")]
    NotAttached {
        /// The device.
        name: Name,
    },
    /// Not allowed.
    #[error(
        "cannot detach {name}: not allowed; run as root with CAP_NET_ADMIN in the host's own user \
         and network namespace"
    )]
    Permission {
        /// The device.
        name: Name,
    },
    /// A file in sysfs could not be used.
    #[error("cannot detach {name}: {}: {reason}", path.display())]
    Sysfs {
        /// The device.
        name: Name,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
    /// Anything else that netlink said.
    #[error("cannot detach {name}: netlink: {reason}")]
    Netlink {
        /// The device.
        name: Name,
        /// What was said.
        reason: String,
    },
}

fn by(driver: Option<Driver>) -> String {
    driver.map_or_else(String::new, |driver| {
        format!(" (driver {})", driver.module())
    })
}

fn because(explanation: &Option<String>) -> String {
    explanation
        .as_ref()
        .map_or_else(String::new, |text| format!(" ({text})"))
}
