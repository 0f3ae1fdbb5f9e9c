//! What a device looks like from outside, at one moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LatencyBucket, LatencySnapshot, UmemKind};

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceSnapshot {
    /// Its name.
    pub name: String,
    /// Its backend, as it was written.
    pub backend: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// The device status byte (VIRTIO 1.3, 2.1).
    pub status: u8,
    /// What the status means: `reset`, `probing`, `running`, `suspended`, `paused`, `refused` or `broken`.
    pub state: String,
    /// Why the device is refused or broken.
    pub problem: Option<String>,
    /// Features that the driver accepted.
    pub features: u64,
    /// The driver that has the device, `virtio` or `vhost`.
    pub driver: Option<String>,
    /// Its node under /dev.
    pub node: Option<String>,
    /// How workers wait: `busy`, `adaptive` or `event`.
    pub mode: String,
    /// The pool whose threads serve its queues; none for threads of their own.
    #[serde(default)]
    pub pool: Option<String>,
    /// Seconds that the kernel waits for an answer before it gives the device up, and that a daemon that was killed
    /// may be gone for; 0 for ever.
    pub msg_timeout_s: Option<u32>,
    /// Seconds that the backend may hold a request before that fails; none for ever.
    pub io_timeout_s: Option<u64>,
    /// Whether a daemon that was killed had the device before.
    pub taken_over: bool,
    /// Version of VDUSE's API that the device was made with.
    pub api_version: u64,
    /// What else the kernel and the device agreed on then: `queue_ready`, `suspend`.
    pub protocol_features: Vec<String>,
    /// Size of VDUSE's bounce region in bytes; `None` before Linux 6.4.
    pub bounce_size_bytes: Option<u64>,
    /// What the data of a disk of this host goes through.
    pub umem: UmemKind,
    /// Why that is not what was asked for.
    pub umem_reason: Option<String>,
    /// Times that a driver reset it, or a frontend left it.
    #[serde(default)]
    pub resets: u64,
    /// Times that it was taken up where another daemon had left it.
    #[serde(default)]
    pub recoveries: u64,
    /// Its queues.
    pub queues: Vec<QueueStats>,
}

/// Whether a queue is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    /// The driver does not use it.
    Unused,
    /// It is served.
    Running,
    /// The driver broke the rules; requests are answered with an error until it resets the device.
    Broken,
    /// Its worker does not answer.
    Stuck,
}

/// A queue and its worker, counted since the worker started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueStats {
    /// Number of the virtqueue.
    pub index: u16,
    /// CPU of its worker.
    pub cpu: usize,
    /// Whether it is served.
    pub state: QueueState,
    /// Why it is broken or stuck, or that its backend has held a request for seconds.
    pub fault: Option<String>,
    /// Requests completed.
    pub requests: u64,
    /// Data bytes given to the driver.
    pub bytes_read: u64,
    /// Data bytes taken from the driver.
    pub bytes_written: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Times that the driver broke the rules.
    pub driver_faults: u64,
    /// Requests that the host failed, by the name of the error: `EIO`, `ENOSPC`.
    pub host_errors: BTreeMap<String, u64>,
    /// System calls of the backend.
    pub backend_system_calls: u64,
    /// Operations of the backend straight to or from memory that it has registered.
    pub backend_registered: u64,
    /// Operations of the backend whose data it copied, because of where the driver has it.
    pub backend_copied: u64,
    /// Passes that did something.
    pub polls_busy: u64,
    /// Passes that found nothing.
    pub polls_idle: u64,
    /// Times that the worker slept.
    pub sleeps: u64,
    /// Kicks received.
    pub kicks: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Interrupts that the kernel refused.
    #[serde(default)]
    pub interrupts_refused: u64,
    /// Requests that the backend had when the worker was last asked.
    #[serde(default)]
    pub in_flight: u64,
    /// Requests that the driver keeps outstanding, as far as its worker has found out.
    #[serde(default)]
    pub depth: u16,
    /// Latency inside of the device, from the avail ring to the used ring.
    pub latency_ns: LatencySnapshot,
    /// The same as counts, in ascending order, without those that are 0: what two moments differ by is the latency
    /// in between.
    #[serde(default)]
    pub latency_buckets: Vec<LatencyBucket>,
}

impl QueueStats {
    /// Returns interrupts a request, `None` before the first request.
    pub fn interrupts_per_request(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.interrupts as f64 / self.requests as f64)
    }
}
