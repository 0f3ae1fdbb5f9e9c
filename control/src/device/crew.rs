//! Starting the workers of a device, which need not be open by then: one that is handed on does not wait for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::EventFd;
use pollux_dataplane::backend::Backend;
use pollux_dataplane::inflight::QueueLog;
use pollux_dataplane::worker::{
    Home, Notifier, PollMode, ServiceConfig, SpawnError, ThreadConfig, WorkerConfig,
};

use super::pool::{PoolError, PoolOptions, Pools};
use super::workers::Workers;
use super::{DeviceOptions, Disk, ServeError};
use crate::sandbox::{Confined, WorkerCalls};

/// What workers of every device of a daemon are started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crew {
    confined: Confined,
    pools: Arc<Mutex<Pools>>,
}

impl Crew {
    /// Returns one whose threads will be `confined`, without pools.
    pub(crate) fn new(confined: Confined) -> Self {
        let pools = Arc::default();
        Self { confined, pools }
    }

    /// Starts the threads of a pool, unless there is one of that name. Returns whether that is as in `options`.
    ///
    /// # Errors
    ///
    /// [`PoolError`] when a thread cannot be had; no pool is there then.
    pub(crate) fn add_pool(&self, options: PoolOptions) -> Result<bool, PoolError> {
        let mut pools = self.pools();
        let differs = pools.differs(&options);
        pools.add(options, self.confined)?;
        Ok(!differs)
    }

    /// Returns the CPUs of the pools' threads.
    pub(crate) fn pool_cpus(&self) -> Vec<usize> {
        self.pools().cpus()
    }

    /// Returns how the threads that are to serve a device wait.
    ///
    /// # Errors
    ///
    /// [`PoolError::Unknown`] when there is no such pool.
    pub(super) fn mode(&self, options: &DeviceOptions) -> Result<PollMode, PoolError> {
        let pool = options.pool.as_deref();
        pool.map_or(Ok(options.mode), |pool| self.pools().mode(pool))
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker for each queue, on threads of their own on `cpus` or on those of the device's pool, with its
    /// notifications and the log of its requests in flight. `woken` is signalled when one wakes that was watched.
    ///
    /// # Errors
    ///
    /// [`ServeError`] when one cannot be had; all end then.
    pub(super) fn spawn_workers<N: Notifier + 'static>(
        &self,
        options: &DeviceOptions,
        disk: &Disk,
        cpus: &[usize],
        woken: &Arc<EventFd>,
        notifier: impl Fn(u16) -> N,
        log: impl Fn(u16) -> Option<QueueLog>,
    ) -> Result<Workers, ServeError> {
        let pools = self.pools();
        let mut workers = Workers::new(options.name.to_string());
        for index in 0..options.queues {
            let (home, cpu) = match &options.pool {
                Some(pool) => {
                    let thread = pools.thread(pool)?;
                    (Home::Shared(thread), thread.cpu().unwrap_or_default())
                }
                None => {
                    let cpu = cpus[usize::from(index)];
                    (Home::Own(self.own_thread(options, disk, index, cpu)?), cpu)
                }
            };
            let config = WorkerConfig {
                home,
                service: ServiceConfig {
                    interrupt_hold: options.interrupt_hold,
                    latency_sample: options.latency_sample,
                    geometry: disk.geometry().clone(),
                    in_flight: log(index),
                    woken: Some(Arc::clone(woken)),
                },
            };
            let worker = disk.spawn_worker(config, notifier(index))?;
            workers.push(worker, cpu);
        }
        Ok(workers)
    }

    fn own_thread(
        &self,
        options: &DeviceOptions,
        disk: &Disk,
        index: u16,
        cpu: usize,
    ) -> Result<ThreadConfig, SpawnError> {
        let calls = WorkerCalls {
            storage: disk.calls(),
            is_vduse: options.vhost_user.is_none(),
            is_shared: false,
        };
        Ok(ThreadConfig {
            name: short_name(options.name.as_str(), &format!("/vq{index}")),
            cpu: Some(cpu),
            mode: options.mode,
            confinement: self.confined.worker(calls).map_err(SpawnError::Confine)?,
        })
    }
}

/// Returns the name of a thread: the kernel keeps 15 bytes of it.
pub(super) fn short_name(name: &str, suffix: &str) -> String {
    let room = 15 - suffix.len();
    let mut name = name.to_owned();
    while name.len() > room {
        name.pop();
    }
    name + suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_names_fit_the_kernels_fifteen_bytes() {
        assert_eq!(short_name("d0", "/vq3"), "d0/vq3");
        assert_eq!(short_name("a-long-device-name", "/vq12"), "a-long-dev/vq12");
    }
}
