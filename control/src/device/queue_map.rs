//! On which CPUs the requests of each queue are submitted, served and returned.

use std::fs::read_to_string;

use serde::Serialize;
use vduse::sysfs::Sysfs;

use super::cpus::parse_cpu_list;
use super::topology::Topology;
use super::{DeviceSnapshot, QueueStats};

/// A queue's CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueMap {
    /// The device.
    pub device: String,
    /// Number of the virtqueue.
    pub index: u16,
    /// CPU of its worker.
    pub worker_cpu: usize,
    /// Node of that CPU.
    pub worker_node: usize,
    /// The pool that the worker's thread is of; none for a thread of its own.
    pub pool: Option<String>,
    /// CPUs whose requests go into this queue (`/sys/class/block/vdX/mq`); none where no disk of this host shows it.
    pub submit_cpus: Option<Vec<usize>>,
    /// CPUs that handle its interrupts (`/sys/class/vduse/NAME/vqN/irq_cb_affinity`); none where no disk of this host
    /// shows it.
    pub interrupt_cpus: Option<Vec<usize>>,
}

/// Returns the CPUs of each queue of a device, as the kernel has them now.
pub fn queue_map(device: &DeviceSnapshot) -> Vec<QueueMap> {
    device.queues.iter().map(|it| one(device, it)).collect()
}

fn one(device: &DeviceSnapshot, queue: &QueueStats) -> QueueMap {
    let node = device
        .node
        .as_deref()
        .and_then(|it| it.strip_prefix("/dev/"));
    QueueMap {
        device: device.name.clone(),
        index: queue.index,
        worker_cpu: queue.cpu,
        worker_node: Topology::of_machine().node(queue.cpu),
        pool: device.pool.clone(),
        submit_cpus: node.and_then(|disk| submit_cpus(disk, queue.index)),
        interrupt_cpus: node.and_then(|_| {
            let sysfs = Sysfs::new(&device.name.parse().ok()?);
            sysfs.irq_cb_affinity(queue.index.into()).ok()
        }),
    }
}

/// Returns the CPUs whose requests for `disk` go into its hardware queue `index`, which has the virtqueue's number.
fn submit_cpus(disk: &str, index: u16) -> Option<Vec<usize>> {
    let list = read_to_string(format!("/sys/class/block/{disk}/mq/{index}/cpu_list")).ok()?;
    parse_cpu_list(list.trim()).ok()
}
