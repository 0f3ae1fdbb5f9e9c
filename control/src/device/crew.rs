//! Starting the workers of a device, which need not be open by then: one that is handed on does not wait for them.

use pollux_dataplane::backend::Backend;
use pollux_dataplane::inflight::QueueLog;
use pollux_dataplane::worker::{
    Home, Notifier, ServiceConfig, SpawnError, ThreadConfig, WorkerConfig,
};
use vduse::Name;

use super::workers::Workers;
use super::{DeviceOptions, Disk, ServeError};
use crate::sandbox::{Confined, WorkerCalls};

/// Starts a worker for each queue, on `cpus` and confined, with its notifications and the log of its requests in flight.
///
/// # Errors
///
/// [`ServeError`] when one cannot be had; all end then.
pub(super) fn spawn_workers<N: Notifier + 'static>(
    options: &DeviceOptions,
    disk: &Disk,
    cpus: &[usize],
    confined: Confined,
    notifier: impl Fn(u16) -> N,
    log: impl Fn(u16) -> Option<QueueLog>,
) -> Result<Workers, ServeError> {
    let calls = WorkerCalls {
        storage: disk.calls(),
        is_vduse: options.vhost_user.is_none(),
    };
    let mut workers = Workers::new(options.name.to_string());
    for (index, &cpu) in (0..).zip(cpus) {
        let config = WorkerConfig {
            home: Home::Own(ThreadConfig {
                name: thread_name(&options.name, index),
                cpu: Some(cpu),
                mode: options.mode,
                confinement: confined.worker(calls).map_err(SpawnError::Confine)?,
            }),
            service: ServiceConfig {
                interrupt_hold: options.interrupt_hold,
                latency_sample: options.latency_sample,
                geometry: disk.geometry().clone(),
                in_flight: log(index),
            },
        };
        let worker = disk.spawn_worker(config, notifier(index))?;
        workers.push(worker, cpu);
    }
    Ok(workers)
}

/// Returns the name of the worker of queue `index`: threads have 15 bytes.
fn thread_name(name: &Name, index: u16) -> String {
    let suffix = format!("/vq{index}");
    let room = 15 - suffix.len();
    let mut name = name.as_str().to_owned();
    while name.len() > room {
        name.pop();
    }
    name + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_names_fit_the_kernels_fifteen_bytes() {
        let short = "d0".parse().unwrap();
        assert_eq!(thread_name(&short, 3), "d0/vq3");
        let long = "a-long-device-name".parse().unwrap();
        assert_eq!(thread_name(&long, 12), "a-long-dev/vq12");
    }
}
