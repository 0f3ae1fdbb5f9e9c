//! The disk behind the worker.

use pollux_dataplane::backend::{Backend, Null};
use pollux_dataplane::blk::Geometry;
use pollux_dataplane::worker::{SpawnError, Worker, WorkerConfig, spawn};

use super::Silent;

/// A disk that workers can be started over. How one is named, and all kinds but the simplest, are the `pollux`
/// command's: this crate knows nothing of them.
pub trait Disk {
    /// Returns its properties.
    fn geometry(&self) -> &Geometry;

    /// Starts a worker over a queue of its own into the disk.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the queue or the thread cannot be had.
    fn spawn_worker(
        &self,
        config: WorkerConfig<'_>,
        notifier: Silent,
    ) -> Result<Worker, SpawnError>;
}

impl Disk for Null {
    fn geometry(&self) -> &Geometry {
        Backend::geometry(self)
    }

    fn spawn_worker(
        &self,
        config: WorkerConfig<'_>,
        notifier: Silent,
    ) -> Result<Worker, SpawnError> {
        let queue = self.open_queue().map_err(SpawnError::Queue)?;
        spawn(config, queue, notifier)
    }
}
