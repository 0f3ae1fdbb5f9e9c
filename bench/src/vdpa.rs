//! vDPA devices of other servers: attached with iproute2's `vdpa`, looked up in sysfs.
//!
//! Status is read from sysfs only: while an attach waits, every user of generic netlink waits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, ProcessError};
use crate::tool::{ToolError, VDPA};

/// Above the kernel's 30 s for one unanswered VDUSE message.
const LIMIT: Duration = Duration::from_secs(60);
const CONTROL: &str = "/dev/vduse/control";
const BUS: &str = "/sys/bus/vdpa";

/// Why a vDPA device is not usable.
#[derive(Debug, thiserror::Error)]
pub enum VdpaError {
    /// This host has no VDUSE.
    #[error(
        "{CONTROL}: {0}; load it with `modprobe -a vduse virtio_vdpa vhost_vdpa`, or use \
         `pollux vm run -- pollux bench compare`"
    )]
    NoVduse(io::Error),
    /// This user may not make devices.
    #[error("{CONTROL}: {0}; run it as root")]
    NotAllowed(io::Error),
    /// Nothing would make a disk of the device.
    #[error("{0}: driver not loaded; load it with `modprobe {0}`")]
    NoDriver(&'static str),
    /// `vdpa` is not installed.
    #[error(transparent)]
    Missing(#[from] ToolError),
    /// `vdpa` could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// `vdpa` failed.
    #[error("{command}: {reason}; look at `dmesg` and `vdpa dev show`")]
    Failed {
        /// The command line.
        command: String,
        /// What it said.
        reason: String,
    },
    /// Another driver could not be replaced.
    #[error("{name}: cannot be given to {driver}: {reason}; look at `dmesg` for what holds it")]
    Rebind {
        /// The device.
        name: String,
        /// Who was to have it.
        driver: &'static str,
        /// What the kernel said.
        reason: io::Error,
    },
}

/// Succeeds where VDUSE devices can be made and bound to `driver`.
pub(crate) fn check_host(driver: &'static str) -> Result<(), VdpaError> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(CONTROL)
        .map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => VdpaError::NotAllowed(e),
            _ => VdpaError::NoVduse(e),
        })?;
    if !Path::new(BUS).join("drivers").join(driver).exists() {
        return Err(VdpaError::NoDriver(driver));
    }
    Ok(())
}

/// Attaches the VDUSE device `name` to `driver`. Returns after the kernel's probe.
pub(crate) fn add(name: &str, driver: &'static str) -> Result<(), VdpaError> {
    vdpa(&["dev", "add", "name", name, "mgmtdev", "vduse"])?;
    if bound_to(name).as_deref() != Some(driver) {
        rebind(name, driver).map_err(|reason| VdpaError::Rebind {
            name: name.to_owned(),
            driver,
            reason,
        })?;
    }
    Ok(())
}

/// Detaches it.
pub(crate) fn del(name: &str) -> Result<(), VdpaError> {
    vdpa(&["dev", "del", name])
}

/// True where a device of this name is attached.
pub(crate) fn is_attached(name: &str) -> bool {
    Path::new(BUS).join("devices").join(name).exists()
}

/// What `driver` has made of the device `name`: a disk or `/dev/vhost-vdpa-N`.
pub(crate) fn node(name: &str, driver: &str) -> Option<PathBuf> {
    node_below(Path::new(BUS), name, driver)
}

fn node_below(bus: &Path, name: &str, driver: &str) -> Option<PathBuf> {
    let device = bus.join("devices").join(name);
    let made = match driver {
        "vhost_vdpa" => child(&device, "vhost-vdpa-")?,
        _ => child(&child(&device, "virtio")?.join("block"), "")?,
    };
    Some(Path::new("/dev").join(made.file_name()?))
}

/// The first entry whose name starts with `prefix`.
fn child(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .min()
}

fn bound_to(name: &str) -> Option<String> {
    let link = fs::read_link(Path::new(BUS).join("devices").join(name).join("driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Takes the device from the driver that was first, where more than one is loaded.
fn rebind(name: &str, driver: &str) -> io::Result<()> {
    let device = Path::new(BUS).join("devices").join(name);
    fs::write(device.join("driver_override"), driver)?;
    if device.join("driver").exists() {
        fs::write(device.join("driver/unbind"), name)?;
    }
    fs::write(
        Path::new(BUS).join("drivers").join(driver).join("bind"),
        name,
    )
}

fn vdpa(arguments: &[&str]) -> Result<(), VdpaError> {
    let mut command = Command::new(VDPA.find()?);
    command.args(arguments);
    let finished = process::run(command, &[], LIMIT, None)?;
    let reason = match finished.status {
        Some(status) if status.success() => return Ok(()),
        Some(_) => finished.last_words,
        None => format!("no answer in {} s", LIMIT.as_secs()),
    };
    Err(VdpaError::Failed {
        command: format!("vdpa {}", arguments.join(" ")),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_found_through_its_virtio_device() {
        let bus = tempfile::tempdir().unwrap();
        let device = bus.path().join("devices/q0");
        let node = |name| node_below(bus.path(), name, "virtio_vdpa");
        fs::create_dir_all(device.join("power")).unwrap();
        assert_eq!(node("q0"), None);
        fs::create_dir_all(device.join("virtio3")).unwrap();
        assert_eq!(node("q0"), None);
        fs::create_dir_all(device.join("virtio3/block/vdb")).unwrap();
        assert_eq!(node("q0"), Some("/dev/vdb".into()));
        assert_eq!(node("q1"), None);
    }

    #[test]
    fn the_node_of_vhost_lies_in_the_device_itself() {
        let bus = tempfile::tempdir().unwrap();
        let device = bus.path().join("devices/q0");
        fs::create_dir_all(device.join("virtio3/block/vdb")).unwrap();
        let node = || node_below(bus.path(), "q0", "vhost_vdpa");
        assert_eq!(node(), None);
        fs::create_dir_all(device.join("vhost-vdpa-2")).unwrap();
        assert_eq!(node(), Some("/dev/vhost-vdpa-2".into()));
    }
}
