//! Attaches VDUSE devices to the vDPA bus, binds them to a driver, and finds what the host got.
//!
//! An attach is three steps: add the device to the bus over generic netlink (`VDPA_CMD_DEV_NEW`),
//! bind it to the driver wanted, and see that a node appeared. By default the kernel binds inside
//! the first step, while the caller holds generic netlink's mutex and the bus's lock; the probe
//! waits for the daemon and for its disk, so a slow daemon would stop every generic netlink user of
//! the host. Therefore `drivers_autoprobe` is off during the first step, and the second goes through
//! sysfs. The driver is then also the one asked for, not the one whose module was loaded first.
//! A detach takes the same way back: unbind through sysfs, which waits for I/O, then
//! `VDPA_CMD_DEV_DEL`, which has nothing left to wait for.
//!
//! Nothing here asks netlink for status, as that can wait for another program's attach.

mod attach;
mod bus;
mod error;
mod netlink;

pub use error::{AttachError, DetachError};

use crate::sandbox::raised;
use bus::Bus;
use netlink::Generic;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use thiserror::Error;
use utoipa::ToSchema;
use vduse::Name;

/// The driver on the vDPA bus that a device is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// `virtio_vdpa`: the host's own virtio drivers, so a disk `/dev/vdX`.
    Virtio,
    /// `vhost_vdpa`: `/dev/vhost-vdpa-N`, for a guest or a driver in user space.
    Vhost,
}

/// A word that names no driver.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("driver {0:?} is not known; use virtio (a disk of this host) or vhost (a guest)")]
pub struct UnknownDriver(String);

impl Driver {
    /// Its kernel module and its folder in `/sys/bus/vdpa/drivers`.
    pub fn module(self) -> &'static str {
        match self {
            Self::Virtio => "virtio_vdpa",
            Self::Vhost => "vhost_vdpa",
        }
    }

    fn from_module(module: &str) -> Option<Self> {
        [Self::Virtio, Self::Vhost]
            .into_iter()
            .find(|driver| driver.module() == module)
    }
}

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(word: &str) -> Result<Self, UnknownDriver> {
        match word {
            "virtio" => Ok(Self::Virtio),
            "vhost" => Ok(Self::Vhost),
            _ => Err(UnknownDriver(word.to_owned())),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtio => "virtio",
            Self::Vhost => "vhost",
        })
    }
}

/// A device that a driver has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// The driver.
    pub driver: Driver,
    /// The block device or character device; `None` if the driver made none, as when it could not
    /// agree on features.
    pub node: Option<PathBuf>,
}

/// Where a device stands on the vDPA bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is not on the bus.
    Detached,
    /// It is on the bus and no driver that this module knows has it.
    Unbound,
    /// A driver has it.
    Bound(Attached),
}

/// Attaches a VDUSE device and binds it to `driver`. On success the node is there.
///
/// Blocks until the driver's probe is over, which the daemon must serve meanwhile: call it from a
/// thread that neither answers messages nor serves a queue. On failure the device is taken off the
/// bus again. Needs root (sysfs) and `CAP_NET_ADMIN` in the initial namespaces.
pub fn attach(name: &Name, driver: Driver) -> Result<Attached, AttachError> {
    raised(|| attach::attach(&Bus::default(), &Generic, name, driver))
}

/// Unbinds the driver and takes the device off the bus.
///
/// Blocks until the driver has let go. A disk's I/O is waited for, so the daemon must serve
/// meanwhile; a mounted disk goes away under its file system. With `vhost_vdpa` it waits until
/// the last process has closed `/dev/vhost-vdpa-N`, and cannot be interrupted.
pub fn detach(name: &Name) -> Result<(), DetachError> {
    raised(|| attach::detach(&Bus::default(), &Generic, name))
}

/// The driver that has the device, and its node; `None` if none has. Reads sysfs, does not block.
pub fn bound(name: &Name) -> Option<Attached> {
    Bus::default().bound(name)
}

/// Whether a virtio driver of this host has the device and has given up on it, as when its features were refused: there
/// is no disk. Reads sysfs, does not block.
pub fn has_failed(name: &Name) -> bool {
    Bus::default().has_failed(name)
}

/// Where the device stands on the bus. Reads sysfs, does not block.
pub fn status(name: &Name) -> Status {
    Bus::default().status(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_have_words_and_modules() {
        for driver in [Driver::Virtio, Driver::Vhost] {
            assert_eq!(driver.to_string().parse(), Ok(driver));
            assert_eq!(Driver::from_module(driver.module()), Some(driver));
        }
        let error = "vfio".parse::<Driver>().unwrap_err().to_string();
        assert!(
            error.contains("vfio") && error.contains("virtio"),
            "{error}"
        );
    }
}
