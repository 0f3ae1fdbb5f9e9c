//! Having a device stand still, and go on.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::ErrorBody;
use super::refusal::{Refusal, blocking, busy};
use super::server::{Api, Served};
use crate::device::{Asker, PauseError};

async fn ask(
    api: &Api,
    name: &str,
    ask: impl FnOnce(&Asker) -> Option<Result<(), PauseError>> + Send + 'static,
) -> Result<Json<()>, Refusal> {
    let Served { name, asker } = api.find(name)?;
    let answered = blocking(move || ask(&asker)).await?;
    let answered = answered.ok_or_else(|| busy(&name))?;
    answered
        .map(Json)
        .map_err(|error| Refusal(StatusCode::CONFLICT, error.to_string()))
}

/// Have a device stand still, with nothing in flight.
///
/// Its driver waits until the device is to go on, or lets go of it. Another daemon that takes it over serves it.
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
    ask(&api, &name, Asker::pause).await
}

/// Have a device go on that was paused.
#[utoipa::path(post, path = "/v1/devices/{name}/resume", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    responses(
        (status = 200, description = "It is served", body = ()),
        (status = "4XX", description = "Refused, not served here, or of a kind that cannot be paused", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn resume(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<()>, Refusal> {
    ask(&api, &name, Asker::resume).await
}
