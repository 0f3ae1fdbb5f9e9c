//! The vDPA bus in sysfs.

use super::{Attached, Driver, Status};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use vduse::Name;

/// VIRTIO 1.3, 2.1: the driver has given up on the device.
const STATUS_FAILED: u8 = 0x80;

/// Where sysfs is mounted.
#[derive(Debug)]
pub(super) struct Bus {
    sysfs: PathBuf,
}

/// A file in sysfs that could not be used.
#[derive(Debug)]
pub(super) struct SysfsError {
    pub(super) path: PathBuf,
    pub(super) reason: io::Error,
}

impl Default for Bus {
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Bus {
    /// The bus below another folder than `/sys`.
    pub(super) fn at(sysfs: impl Into<PathBuf>) -> Self {
        Self {
            sysfs: sysfs.into(),
        }
    }

    /// Whether there is a VDUSE device of this name, on the bus or not.
    pub(super) fn has_vduse_device(&self, name: &Name) -> bool {
        self.sysfs.join("class/vduse").join(name.as_str()).exists()
    }

    /// Whether the module `vdpa` is loaded.
    pub(super) fn exists(&self) -> bool {
        self.bus().exists()
    }

    /// Whether the driver's module is loaded.
    pub(super) fn has_driver(&self, driver: Driver) -> bool {
        self.driver(driver).exists()
    }

    /// Whether anything would make disks of virtio devices.
    pub(super) fn has_disk_driver(&self) -> bool {
        self.sysfs.join("bus/virtio/drivers/virtio_blk").exists()
    }

    /// Runs `action` while no driver is probed for new devices of the bus.
    ///
    /// Processes and threads that do the same take turns, so that each restores what it found. A
    /// process killed in `action` leaves it switched off.
    pub(super) fn without_autoprobe<T>(&self, action: impl FnOnce() -> T) -> Result<T, SysfsError> {
        let path = self.bus().join("drivers_autoprobe");
        let failed = |reason| SysfsError {
            path: path.clone(),
            reason,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        let lock = lock.map_err(|(_, errno)| failed(errno.into()))?;
        let mut before = String::new();
        (&*lock).read_to_string(&mut before).map_err(failed)?;
        write_at_start(&lock, "0").map_err(failed)?;
        let restore = Restore {
            file: &lock,
            value: before.trim(),
        };
        let result = action();
        restore.now().map_err(failed)?;
        Ok(result)
    }

    /// Makes `driver` the only one to match the device from now on. Linux before 5.17 has no such
    /// thing.
    pub(super) fn override_driver(&self, name: &Name, driver: Driver) -> Result<(), SysfsError> {
        let path = self.device(name).join("driver_override");
        match write(&path, driver.module()) {
            Err(error) if error.reason.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Probes the driver for the device and returns when it has finished.
    ///
    /// The driver's own `bind` file says when the probe failed; the bus's `drivers_probe` does not.
    pub(super) fn bind(&self, name: &Name, driver: Driver) -> Result<(), SysfsError> {
        write(&self.driver(driver).join("bind"), name.as_str())
    }

    /// Takes the device from the driver and returns when it has let go.
    pub(super) fn unbind(&self, name: &Name, driver: Driver) -> Result<(), SysfsError> {
        write(&self.driver(driver).join("unbind"), name.as_str())
    }

    /// Where the device stands.
    pub(super) fn status(&self, name: &Name) -> Status {
        match self.bound(name) {
            Some(attached) => Status::Bound(attached),
            None if self.device(name).exists() => Status::Unbound,
            None => Status::Detached,
        }
    }

    /// The driver that has the device, and its node.
    pub(super) fn bound(&self, name: &Name) -> Option<Attached> {
        let link = fs::read_link(self.device(name).join("driver")).ok()?;
        let driver = Driver::from_module(link.file_name()?.to_str()?)?;
        let node = match driver {
            Driver::Virtio => self.disk(name),
            Driver::Vhost => child(&self.device(name), "vhost-vdpa-"),
        };
        let node =
            node.and_then(|folder| folder.file_name().map(|file| Path::new("/dev").join(file)));
        Some(Attached { driver, node })
    }

    /// The VIRTIO status of the device under `virtio_vdpa`; `None` if there is none. The kernel
    /// answers from its own copy.
    pub(super) fn virtio_status(&self, name: &Name) -> Option<u8> {
        let text = fs::read_to_string(self.virtio(name)?.join("status")).ok()?;
        let digits = text.trim().trim_start_matches("0x");
        u8::try_from(u32::from_str_radix(digits, 16).ok()?).ok()
    }

    /// Whether the driver under `virtio_vdpa` has given up on the device.
    pub(super) fn has_failed(&self, name: &Name) -> bool {
        self.virtio_status(name)
            .is_some_and(|status| status & STATUS_FAILED != 0)
    }

    fn disk(&self, name: &Name) -> Option<PathBuf> {
        child(&self.virtio(name)?.join("block"), "")
    }

    fn virtio(&self, name: &Name) -> Option<PathBuf> {
        child(&self.device(name), "virtio")
    }

    fn bus(&self) -> PathBuf {
        self.sysfs.join("bus/vdpa")
    }

    fn device(&self, name: &Name) -> PathBuf {
        self.bus().join("devices").join(name.as_str())
    }

    fn driver(&self, driver: Driver) -> PathBuf {
        self.bus().join("drivers").join(driver.module())
    }
}

/// Writes a value back, at the latest when it is dropped.
struct Restore<'a> {
    file: &'a File,
    value: &'a str,
}

impl Restore<'_> {
    fn now(self) -> io::Result<()> {
        let (file, value) = (self.file, self.value);
        std::mem::forget(self);
        write_at_start(file, value)
    }
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // Reached only while a panic unwinds: there is nobody left to tell.
        let _ = write_at_start(self.file, self.value);
    }
}

fn write_at_start(mut file: &File, value: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(value.as_bytes())
}

/// Writes to a file that exists: a folder that is not sysfs must not grow files.
fn write(path: &Path, value: &str) -> Result<(), SysfsError> {
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|reason| SysfsError {
        path: path.to_owned(),
        reason,
    })
}

/// The first folder in `folder` whose name starts with `prefix`.
fn child(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .find(|path| path.is_dir())
}
