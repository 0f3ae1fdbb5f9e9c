//! Another size for a disk that is in use: who learns of it, and when.
//!
//! Nobody is told of a byte that is not there, and none goes away that somebody was told of. So a disk that grows does
//! it from the storage to the driver, and one that shrinks the other way round:
//!
//! | grow | shrink |
//! |---|---|
//! | `NAME.state` names both sizes | `NAME.state` names both sizes |
//! | the storage grows | the driver is told |
//! | every worker takes requests up to the new end | every worker refuses those beyond it, and none is left in its backend |
//! | `NAME.state` names the new size | the storage shrinks |
//! | the driver is told | `NAME.state` names the new size |
//!
//! Wherever a daemon is killed on this way, one of the two sizes is served by the next, which tells the driver again.
//! A file decides by its length, which changes at once and only while both are named. What keeps nothing takes either
//! until one is named.
//!
//! A worker that is late ends the way where it is, since the steps after need all of them. Asking again goes it once
//! more, whatever was done of it.

use std::fs::File;

use pollux_dataplane::backend::{Backend, DiskError};
use pollux_dataplane::blk::{ConfigSpace, Geometry};
use tracing::{info, warn};
use vduse::{DeviceError, Name};

use super::thread::ControlThread;
use super::trace::{DeviceState, TraceError};

/// What became of the size of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resized {
    /// The device.
    pub name: Name,
    /// Size before, in bytes.
    pub before_bytes: u64,
    /// Size from now on, in bytes.
    pub after_bytes: u64,
}

/// Why a disk has not the size that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// Smaller, and that was not asked for.
    #[error(
        "cannot resize {name}: {after_bytes} bytes are less than its {before_bytes}, and Linux takes away at once \
         what is beyond, mounted or not: shrink what is on it, then add --force"
    )]
    Shrinks {
        /// The device.
        name: Name,
        /// Its size in bytes.
        before_bytes: u64,
        /// Size asked for, in bytes.
        after_bytes: u64,
    },
    /// Nobody would tell the driver.
    #[error(
        "cannot resize {name}: its frontend cannot be told of another size; end pollux serve, resize the storage, and \
         serve it again"
    )]
    VhostUser {
        /// The device.
        name: Name,
    },
    /// The disk cannot have that size.
    #[error("cannot resize {name}: {reason}")]
    Disk {
        /// The device.
        name: Name,
        /// What is wrong.
        reason: DiskError,
    },
    /// A worker does not look at its commands, or did not in time.
    #[error(
        "cannot resize {name}: the worker of queue {queue} does not answer; for its driver the disk has \
         {size_bytes} bytes now: ask again when pollux status shows that the worker runs"
    )]
    Stuck {
        /// The device.
        name: Name,
        /// The worker's queue.
        queue: usize,
        /// Size that the driver was told.
        size_bytes: u64,
    },
    /// The next daemon cannot be told of it.
    #[error("cannot resize {name}: {reason}")]
    Trace {
        /// The device.
        name: Name,
        /// What is wrong.
        reason: TraceError,
    },
    /// The driver cannot be told of it.
    #[error("{0}; its driver knows the size before")]
    Device(#[from] DeviceError),
    /// The new length may not survive the machine.
    #[error(
        "{name} is resized, but its file cannot be written to its storage: {reason}; a flush of the disk tries again"
    )]
    Sync {
        /// The device.
        name: Name,
        /// What the system said.
        reason: std::io::Error,
    },
}

impl ControlThread {
    /// Makes the disk `size_bytes` large. Returns what became of it, and the file whose length is not durable yet.
    pub(super) fn resize(
        &mut self,
        size_bytes: u64,
        force: bool,
    ) -> Result<(Resized, Option<File>), ResizeError> {
        let name = self.options.name.clone();
        let before_bytes = self.capacity_bytes;
        let geometry = self.disk.resized(size_bytes);
        let geometry = geometry.map_err(|reason| ResizeError::Disk {
            name: name.clone(),
            reason,
        })?;
        if size_bytes < before_bytes && !force {
            return Err(ResizeError::Shrinks {
                name,
                before_bytes,
                after_bytes: size_bytes,
            });
        }
        self.workers
            .all_listen()
            .map_err(|queue| self.stuck(queue))?;
        self.note(self.state().resizing_to(size_bytes))?;
        if size_bytes > before_bytes {
            self.grow(geometry)?;
        } else {
            self.shrink(geometry)?;
        }
        info!(device = %name, "resized from {before_bytes} to {size_bytes} bytes");
        let resized = Resized {
            name,
            before_bytes,
            after_bytes: size_bytes,
        };
        let file = self.disk.outliving_file().map(File::try_clone).transpose();
        let file = file.map_err(|reason| ResizeError::Sync {
            name: resized.name.clone(),
            reason,
        })?;
        Ok((resized, file))
    }

    fn grow(&mut self, geometry: Geometry) -> Result<(), ResizeError> {
        if let Err(error) = self.resize_storage(&geometry) {
            // What is noted does no harm.
            let _ = self.note(self.state());
            return Err(error);
        }
        self.resize_workers(&geometry)?;
        self.note(self.state())?;
        Ok(self.tell_capacity(&geometry).or_else(unread)?)
    }

    /// Also for the size that the driver knows: what a late worker left undone.
    fn shrink(&mut self, geometry: Geometry) -> Result<(), ResizeError> {
        self.tell_capacity(&geometry).or_else(unread)?;
        self.resize_workers(&geometry)?;
        self.resize_storage(&geometry)?;
        self.note(self.state())
    }

    /// Tells the driver how large the disk is, if there is one that listens.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Invalid`] when none does: the next reads it as it starts.
    pub(super) fn tell_capacity(&mut self, geometry: &Geometry) -> Result<(), DeviceError> {
        let (offset, capacity) = ConfigSpace::capacity(geometry);
        self.device.set_config(offset, &capacity)?;
        self.capacity_bytes = geometry.size_bytes();
        self.device.inject_config_irq()
    }

    fn resize_storage(&mut self, geometry: &Geometry) -> Result<(), ResizeError> {
        let resized = self.disk.resize(geometry.clone());
        resized.map_err(|reason| ResizeError::Disk {
            name: self.options.name.clone(),
            reason,
        })
    }

    fn resize_workers(&mut self, geometry: &Geometry) -> Result<(), ResizeError> {
        let resized = self.workers.resize(geometry);
        resized.map_err(|queue| self.stuck(queue))
    }

    fn stuck(&self, queue: usize) -> ResizeError {
        warn!(device = %self.options.name, queue, "the worker does not answer a resize");
        ResizeError::Stuck {
            name: self.options.name.clone(),
            queue,
            size_bytes: self.capacity_bytes,
        }
    }

    fn state(&self) -> DeviceState {
        DeviceState::new(&self.options, &self.disk, self.recipe.protocol)
    }

    /// Has the next daemon find `state`.
    fn note(&self, state: DeviceState) -> Result<(), ResizeError> {
        self.trace.write(&state).map_err(|reason| {
            let name = self.options.name.clone();
            ResizeError::Trace { name, reason }
        })
    }
}

/// Takes it as it is that no driver listens.
fn unread(error: DeviceError) -> Result<(), DeviceError> {
    match error {
        DeviceError::Invalid { .. } => Ok(()),
        other => Err(other),
    }
}
