//! The threads that serve queues.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ErrorBody;
use super::refusal::{Refusal, blocking};
use super::server::Api;
use crate::device::{DeviceSnapshot, QueueState};

/// A thread that serves queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerInfo {
    /// The CPU that it is pinned to.
    pub cpu: usize,
    /// How it waits: `busy`, `adaptive` or `event`.
    pub mode: String,
    /// It does not answer.
    pub stuck: bool,
    /// Passes that did something.
    pub polls_busy: u64,
    /// Passes that found nothing.
    pub polls_idle: u64,
    /// Times that it slept.
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
        all.filter_map(|served| served.asker.snapshot())
            .flat_map(of)
            .collect()
    });
    looked.await.map(Json)
}

/// Returns those of `device`: each queue has one of its own.
fn of(device: DeviceSnapshot) -> Vec<WorkerInfo> {
    let queues = device.queues.into_iter();
    queues
        .map(|queue| WorkerInfo {
            cpu: queue.cpu,
            mode: device.mode.clone(),
            stuck: queue.state == QueueState::Stuck,
            polls_busy: queue.polls_busy,
            polls_idle: queue.polls_idle,
            sleeps: queue.sleeps,
            queues: vec![ServedQueue {
                device: device.name.clone(),
                queue: queue.index,
            }],
        })
        .collect()
}
