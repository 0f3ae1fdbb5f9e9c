//! Having a device stand still, and go on.

use axum::Json;
use axum::extract::{Path, State};

use super::ErrorBody;
use super::devices::ask;
use super::refusal::Refusal;
use super::server::Api;
use crate::device::Asker;

/// Have a device stand still, with nothing in flight.
///
/// Its driver waits until the device is to go on, or lets go of it, as a frontend of vhost-user does that disconnects. Another
/// daemon that takes it over serves it.
#[utoipa::path(post, path = "/v1/devices/{name}/pause", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    responses(
        (status = 200, description = "It stands still", body = ()),
        (status = "4XX", description = "Refused, not served here, or it cannot be paused now", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn pause(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<()>, Refusal> {
    ask(&api, &name, Asker::pause).await.map(Json)
}

/// Have a device go on that was paused.
#[utoipa::path(post, path = "/v1/devices/{name}/resume", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    responses(
        (status = 200, description = "It is served", body = ()),
        (status = "4XX", description = "Refused, or not served here", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn resume(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<()>, Refusal> {
    ask(&api, &name, Asker::resume).await.map(Json)
}
