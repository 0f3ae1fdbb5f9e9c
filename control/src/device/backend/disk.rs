//! A disk that was asked for, made.

use std::fs::File;

use pollux_dataplane::backend::{
    Backend, BackendQueue, Delay, DiskError, Failing, FileDisk, Null, Nvme, NvmeEvent, Passthrough,
    Ram, Throttle,
};
use pollux_dataplane::blk::Geometry;
use pollux_dataplane::worker::{Notifier, SpawnError, Worker, WorkerConfig, spawn};
use tracing::warn;
use vduse::Name;

use crate::sandbox::StorageCalls;

/// A disk of any kind.
#[derive(Debug)]
pub enum Disk {
    /// Forgets everything.
    Null(Null),
    /// Memory.
    Ram(Ram),
    /// A file or block device.
    File(FileDisk),
    /// A namespace of an NVMe controller, through the kernel's driver.
    Passthrough(Passthrough),
    /// A namespace of an NVMe controller.
    Nvme(Nvme),
    /// Another one, slower.
    Delay(Box<Delay<Self>>),
    /// Another one, of which requests fail.
    Failing(Box<Failing<Self>>),
    /// Another one, with limits.
    Throttle(Box<Throttle<Self>>),
}

/// How a wrapper sees what it wraps.
impl Backend for Disk {
    type Queue = Box<dyn BackendQueue>;

    fn geometry(&self) -> &Geometry {
        match self {
            Self::Null(null) => null.geometry(),
            Self::Ram(ram) => ram.geometry(),
            Self::File(file) => file.geometry(),
            Self::Passthrough(namespace) => namespace.geometry(),
            Self::Nvme(nvme) => nvme.geometry(),
            Self::Delay(delay) => delay.geometry(),
            Self::Failing(failing) => failing.geometry(),
            Self::Throttle(throttle) => throttle.geometry(),
        }
    }

    fn resized(&self, size_bytes: u64) -> Result<Geometry, DiskError> {
        match self {
            Self::Null(null) => null.resized(size_bytes),
            Self::Ram(ram) => ram.resized(size_bytes),
            Self::File(file) => file.resized(size_bytes),
            Self::Passthrough(namespace) => namespace.resized(size_bytes),
            Self::Nvme(nvme) => nvme.resized(size_bytes),
            Self::Delay(delay) => delay.resized(size_bytes),
            Self::Failing(failing) => failing.resized(size_bytes),
            Self::Throttle(throttle) => throttle.resized(size_bytes),
        }
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        match self {
            Self::Null(null) => null.resize(geometry),
            Self::Ram(ram) => ram.resize(geometry),
            Self::File(file) => file.resize(geometry),
            Self::Passthrough(namespace) => namespace.resize(geometry),
            Self::Nvme(nvme) => nvme.resize(geometry),
            Self::Delay(delay) => delay.resize(geometry),
            Self::Failing(failing) => failing.resize(geometry),
            Self::Throttle(throttle) => throttle.resize(geometry),
        }
    }

    fn open_queue(&self) -> std::io::Result<Self::Queue> {
        Ok(match self {
            Self::Null(null) => Box::new(null.open_queue()?),
            Self::Ram(ram) => Box::new(ram.open_queue()?),
            Self::File(file) => Box::new(file.open_queue()?),
            Self::Passthrough(namespace) => Box::new(namespace.open_queue()?),
            Self::Nvme(nvme) => Box::new(nvme.open_queue()?),
            Self::Delay(delay) => Box::new(delay.open_queue()?),
            Self::Failing(failing) => Box::new(failing.open_queue()?),
            Self::Throttle(throttle) => Box::new(throttle.open_queue()?),
        })
    }
}

impl Disk {
    /// Returns the file of a disk that outlives the process.
    pub fn outliving_file(&self) -> Option<&File> {
        match self {
            Self::Null(_) | Self::Nvme(_) | Self::Passthrough(_) => None,
            Self::Ram(ram) => ram.outliving_file(),
            Self::File(file) => file.outliving_file(),
            Self::Delay(delay) => delay.inner().outliving_file(),
            Self::Failing(failing) => failing.inner().outliving_file(),
            Self::Throttle(throttle) => throttle.inner().outliving_file(),
        }
    }

    /// Takes the storage for this process alone, before anything is read or written.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when another serves it, or it is mounted.
    pub fn claim(&self) -> Result<(), DiskError> {
        match self {
            Self::Null(_) | Self::Ram(_) | Self::Nvme(_) => Ok(()),
            Self::File(file) => file.claim(),
            Self::Passthrough(namespace) => namespace.claim(),
            Self::Delay(delay) => delay.inner().claim(),
            Self::Failing(failing) => failing.inner().claim(),
            Self::Throttle(throttle) => throttle.inner().claim(),
        }
    }

    /// Lets go of the storage, for another process that serves it from here on.
    pub fn release(&self) {
        match self {
            Self::Null(_) | Self::Ram(_) | Self::Nvme(_) => {}
            Self::File(file) => file.release(),
            Self::Passthrough(namespace) => namespace.release(),
            Self::Delay(delay) => delay.inner().release(),
            Self::Failing(failing) => failing.inner().release(),
            Self::Throttle(throttle) => throttle.inner().release(),
        }
    }

    /// Returns what the storage has told of its own accord, each event once.
    pub(crate) fn event(&self) -> Option<NvmeEvent> {
        match self {
            Self::Null(_) | Self::Ram(_) | Self::File(_) | Self::Passthrough(_) => None,
            Self::Nvme(nvme) => nvme.event(),
            Self::Delay(delay) => delay.inner().event(),
            Self::Failing(failing) => failing.inner().event(),
            Self::Throttle(throttle) => throttle.inner().event(),
        }
    }

    /// Tells of what the storage has told of, if it has. What it tells next waits for the next time.
    pub(crate) fn tell_event(&self, device: &Name) {
        if let Some(event) = self.event() {
            warn!(%device, "{event}");
        }
    }

    /// Returns what a worker does for it.
    pub(crate) fn calls(&self) -> StorageCalls {
        match self {
            Self::Null(_) => StorageCalls::None,
            Self::Ram(_) => StorageCalls::Memory,
            Self::File(_) | Self::Passthrough(_) => StorageCalls::Ring,
            Self::Nvme(_) => StorageCalls::Vfio,
            Self::Delay(delay) => delay.inner().calls(),
            Self::Failing(failing) => failing.inner().calls(),
            Self::Throttle(throttle) => throttle.inner().calls(),
        }
    }

    /// Starts a worker over a queue of its own into the disk.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the queue or the thread cannot be had.
    pub fn spawn_worker(
        &self,
        config: WorkerConfig<'_>,
        notifier: impl Notifier + 'static,
    ) -> Result<Worker, SpawnError> {
        match self {
            Self::Null(null) => spawn(
                config,
                null.open_queue().map_err(SpawnError::Queue)?,
                notifier,
            ),
            Self::Ram(ram) => spawn(
                config,
                ram.open_queue().map_err(SpawnError::Queue)?,
                notifier,
            ),
            Self::File(file) => spawn(
                config,
                file.open_queue().map_err(SpawnError::Queue)?,
                notifier,
            ),
            Self::Passthrough(namespace) => spawn(
                config,
                namespace.open_queue().map_err(SpawnError::Queue)?,
                notifier,
            ),
            Self::Nvme(nvme) => spawn(
                config,
                nvme.open_queue().map_err(SpawnError::Queue)?,
                notifier,
            ),
            Self::Delay(_) | Self::Failing(_) | Self::Throttle(_) => spawn(
                config,
                self.open_queue().map_err(SpawnError::Queue)?,
                notifier,
            ),
        }
    }
}
