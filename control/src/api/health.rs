//! Whether the daemon is well, and which one it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ErrorBody;
use super::refusal::{Refusal, blocking};
use super::server::Api;
use crate::device::QueueState;

/// A control thread that is well answers in much less.
const PATIENCE: Duration = Duration::from_secs(3);

const SILENT: &str = "its control thread does not answer";

/// Which daemon it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Of Pollux.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Devices can be added to it and removed from it.
    #[serde(default)]
    pub takes_devices: bool,
}

/// Whether all is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Every device is.
    pub healthy: bool,
    /// What is wrong, by device.
    pub problems: BTreeMap<String, String>,
}

/// Which daemon this is.
#[utoipa::path(get, path = "/v1/version", tag = "daemon", responses(
    (status = 200, description = "This one", body = Version),
    (status = "4XX", description = "Refused", body = ErrorBody),
))]
pub(super) async fn version(State(api): State<Api>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        takes_devices: api.read_device.is_some(),
    })
}

/// Whether every control thread answers and no worker is stuck.
#[utoipa::path(get, path = "/v1/health", tag = "daemon", responses(
    (status = 200, description = "All is well", body = Health),
    (status = 503, description = "Something is not", body = Health),
    (status = "4XX", description = "Refused", body = ErrorBody),
))]
pub(super) async fn health(State(api): State<Api>) -> Result<(StatusCode, Json<Health>), Refusal> {
    let problems = blocking(move || problems(&api)).await?;
    let healthy = problems.is_empty();
    let status = match healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok((status, Json(Health { healthy, problems })))
}

fn problems(api: &Api) -> BTreeMap<String, String> {
    let deadline = Instant::now() + PATIENCE;
    let served = api.all();
    let asked: Vec<_> = served.iter().map(|it| it.asker.ask_alive()).collect();
    let mut problems = BTreeMap::new();
    for (served, answer) in served.iter().zip(asked) {
        let left = deadline.saturating_duration_since(Instant::now());
        let problem = match answer.recv_timeout(left) {
            Err(_) => Some(SILENT.to_owned()),
            Ok(()) => match served.asker.snapshot() {
                None => Some(SILENT.to_owned()),
                Some(device) => {
                    let mut queues = device.queues.iter();
                    let stuck = queues.find(|it| it.state == QueueState::Stuck);
                    let stuck =
                        stuck.map(|it| format!("the worker of queue {} is stuck", it.index));
                    stuck.or(device.problem)
                }
            },
        };
        let problem = problem.filter(|_| api.has(served));
        problems.extend(problem.map(|problem| (served.name.to_string(), problem)));
    }
    problems
}
