//! The threads that serve queues.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ErrorBody;
use super::refusal::{Refusal, blocking};
use super::server::Api;
use crate::device::{DeviceSnapshot, QueueState, QueueStats};

/// A thread that serves queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerInfo {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// The pool that it is of; none where it serves one queue alone.
    #[serde(default)]
    pub pool: Option<String>,
    /// How it waits: `busy`, `adaptive` or `event`.
    pub mode: String,
    /// It does not answer.
    pub stuck: bool,
    /// Passes over a queue that did something.
    pub polls_busy: u64,
    /// Passes that found nothing.
    pub polls_idle: u64,
    /// Times that a queue was left to its kick.
    pub sleeps: u64,
    /// What it serves.
    pub queues: Vec<ServedQueue>,
}

/// A queue that a worker serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedQueue {
    /// Name of the device.
    pub device: String,
    /// Number of the virtqueue.
    pub queue: u16,
}

/// Every thread that serves queues.
#[utoipa::path(get, path = "/v1/workers", tag = "daemon", responses(
    (status = 200, description = "All but those of devices that do not answer", body = Vec<WorkerInfo>),
    (status = "4XX", description = "Refused", body = ErrorBody),
))]
pub(super) async fn workers(State(api): State<Api>) -> Result<Json<Vec<WorkerInfo>>, Refusal> {
    let looked = blocking(move || {
        let all = api.all().into_iter();
        of(all.filter_map(|served| served.asker.snapshot()))
    });
    looked.await.map(Json)
}

/// Returns those of `devices`: each queue has one of its own, but for those in a pool, which has one on each of its CPUs.
fn of(devices: impl Iterator<Item = DeviceSnapshot>) -> Vec<WorkerInfo> {
    let (mut own, mut shared) = (Vec::new(), BTreeMap::new());
    for device in devices {
        for queue in &device.queues {
            let worker = one(&device, queue);
            match &device.pool {
                None => own.push(worker),
                Some(pool) => match shared.entry((pool.clone(), queue.cpu)) {
                    Entry::Vacant(none) => drop(none.insert(worker)),
                    Entry::Occupied(mut known) => known.get_mut().join(worker),
                },
            }
        }
    }
    own.into_iter().chain(shared.into_values()).collect()
}

fn one(device: &DeviceSnapshot, queue: &QueueStats) -> WorkerInfo {
    WorkerInfo {
        cpu: queue.cpu,
        pool: device.pool.clone(),
        mode: device.mode.clone(),
        stuck: queue.state == QueueState::Stuck,
        polls_busy: queue.polls_busy,
        polls_idle: queue.polls_idle,
        sleeps: queue.sleeps,
        queues: vec![ServedQueue {
            device: device.name.clone(),
            queue: queue.index,
        }],
    }
}

impl WorkerInfo {
    /// Adds what the thread does for another queue.
    fn join(&mut self, other: Self) {
        self.stuck |= other.stuck;
        self.polls_busy += other.polls_busy;
        self.polls_idle += other.polls_idle;
        self.sleeps += other.sleeps;
        self.queues.extend(other.queues);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn queues_of_a_pool_share_the_thread_of_their_cpu() {
        let device = |name: &str, pool: Option<&str>| DeviceSnapshot {
            name: name.into(),
            pool: pool.map(Into::into),
            ..sample::device()
        };
        let queues = sample::device().queues.len();
        let cpus: Vec<usize> = sample::device().queues.iter().map(|it| it.cpu).collect();
        let cpus = std::collections::BTreeSet::from_iter(cpus).len();
        let own = of([device("d0", None), device("d1", None)].into_iter());
        assert_eq!(own.len(), 2 * queues);
        let pooled = ["d0", "d1"].map(|name| device(name, Some("small")));
        let shared = of(pooled.into_iter());
        assert_eq!(shared.len(), cpus);
        let served = shared.iter().map(|worker| worker.queues.len());
        assert_eq!(served.sum::<usize>(), 2 * queues);
        let busy = |all: &[WorkerInfo]| all.iter().map(|it| it.polls_busy).sum::<u64>();
        assert_eq!(busy(&own), busy(&shared));
        let apart = [device("d0", Some("small")), device("d1", Some("large"))];
        assert_eq!(of(apart.into_iter()).len(), 2 * cpus);
    }
}
