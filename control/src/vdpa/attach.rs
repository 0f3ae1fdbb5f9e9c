//! The order of an attach and a detach, over whatever bus and netlink it is given.

use super::bus::{Bus, SysfsError};
use super::netlink::{Netlink, NetlinkError};
use super::{AttachError, Attached, DetachError, Driver, Status};
use nix::errno::Errno;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tracing::warn;
use vduse::Name;

/// How long a disk may take to appear when nothing says that it will not: `virtio_blk` may have to
/// be loaded by udev first.
const DISK_WAIT: Duration = Duration::from_secs(3);
const DISK_POLL: Duration = Duration::from_millis(10);

pub(super) fn attach(
    bus: &Bus,
    netlink: &impl Netlink,
    name: &Name,
    driver: Driver,
) -> Result<Attached, AttachError> {
    check(bus, name, driver)?;
    bus.without_autoprobe(|| netlink.add(name))
        .map_err(|error| sysfs(name, error))?
        .map_err(|error| refused(name, error))?;
    let attached = bind(bus, name, driver);
    if attached.is_err()
        && let Err(error) = detach(bus, netlink, name)
    {
        warn!(device = %name, "after a failed attach: {error}");
    }
    attached
}

/// What can be said without changing anything.
fn check(bus: &Bus, name: &Name, driver: Driver) -> Result<(), AttachError> {
    let name = name.clone();
    if !bus.exists() {
        return Err(AttachError::NoBus { name });
    }
    if !bus.has_driver(driver) {
        return Err(AttachError::DriverMissing { name, driver });
    }
    match bus.status(&name) {
        Status::Detached if bus.has_vduse_device(&name) => Ok(()),
        Status::Detached => Err(AttachError::Unknown { name }),
        Status::Unbound => Err(AttachError::AlreadyAttached { name, driver: None }),
        Status::Bound(now) => Err(AttachError::AlreadyAttached {
            name,
            driver: Some(now.driver),
        }),
    }
}

fn bind(bus: &Bus, name: &Name, driver: Driver) -> Result<Attached, AttachError> {
    bus.override_driver(name, driver)
        .map_err(|error| sysfs(name, error))?;
    bus.bind(name, driver).map_err(|error| sysfs(name, error))?;
    let deadline = Instant::now() + DISK_WAIT;
    loop {
        if let Some(attached @ Attached { node: Some(_), .. }) = bus.bound(name) {
            return Ok(attached);
        }
        if driver == Driver::Vhost || bus.has_failed(name) || Instant::now() >= deadline {
            return Err(no_node(bus, name, driver));
        }
        sleep(DISK_POLL);
    }
}

fn no_node(bus: &Bus, name: &Name, driver: Driver) -> AttachError {
    let name = name.clone();
    match bus.virtio_status(&name) {
        Some(_) if !bus.has_disk_driver() => AttachError::NoDiskDriver { name },
        Some(status) => AttachError::NoDisk { name, status },
        None => AttachError::NoNode { name, driver },
    }
}

pub(super) fn detach(bus: &Bus, netlink: &impl Netlink, name: &Name) -> Result<(), DetachError> {
    match bus.status(name) {
        Status::Detached => return Err(DetachError::NotAttached { name: name.clone() }),
        Status::Unbound => {}
        Status::Bound(Attached { driver, .. }) => unbind(bus, name, driver)?,
    }
    netlink.delete(name).map_err(|error| {
        let name = name.clone();
        match error {
            NetlinkError::Refused {
                errno: Errno::ENODEV,
                ..
            } => DetachError::NotAttached { name },
            NetlinkError::Refused {
                errno: Errno::EPERM | Errno::EACCES,
                ..
            } => DetachError::Permission { name },
            error => DetachError::Netlink {
                name,
                reason: error.to_string(),
            },
        }
    })
}

/// Takes the device from its driver; that another program did so meanwhile is fine.
fn unbind(bus: &Bus, name: &Name, driver: Driver) -> Result<(), DetachError> {
    let Err(SysfsError { path, reason }) = bus.unbind(name, driver) else {
        return Ok(());
    };
    if bus.bound(name).is_none() {
        return Ok(());
    }
    let name = name.clone();
    Err(match reason.kind() {
        std::io::ErrorKind::PermissionDenied => DetachError::Permission { name },
        _ => DetachError::Sysfs { name, path, reason },
    })
}

fn sysfs(name: &Name, SysfsError { path, reason }: SysfsError) -> AttachError {
    let name = name.clone();
    match reason.kind() {
        std::io::ErrorKind::PermissionDenied => AttachError::Permission { name },
        _ => AttachError::Sysfs { name, path, reason },
    }
}

/// What the kernel means by an errno of `VDPA_CMD_DEV_NEW`.
fn refused(name: &Name, error: NetlinkError) -> AttachError {
    let name = name.clone();
    match error {
        NetlinkError::NoFamily => AttachError::NoBus { name },
        NetlinkError::Refused { errno, explanation } => match errno {
            Errno::EEXIST => AttachError::AlreadyAttached { name, driver: None },
            Errno::EPERM | Errno::EACCES => AttachError::Permission { name },
            Errno::EINVAL | Errno::ENODEV => AttachError::Refused { name, explanation },
            _ => {
                let reason = NetlinkError::Refused { errno, explanation }.to_string();
                AttachError::Netlink { name, reason }
            }
        },
        error => AttachError::Netlink {
            name,
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
