//! Devices over the API: looking at them, and changing one.

use std::fmt::Display;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::metrics::{self, Seen, exposition};
use super::refusal::{Body, Refusal, blocking, busy};
use super::server::{Api, Served};
use super::{AttachBody, AttachedBody, ErrorBody, HandedOver, ResizeBody, ResizedBody};
use crate::daemon::Reloaded;
use crate::device::{Asker, DeviceSnapshot};
use crate::vdpa;

impl Api {
    pub(super) fn find(&self, name: &str) -> Result<Served, Refusal> {
        let found = self
            .all()
            .into_iter()
            .find(|served| served.name.as_str() == name);
        found.ok_or_else(|| unknown(name))
    }
}

/// Returns what a device looks like, or that it is served no longer.
pub(super) async fn snapshot(api: &Api, served: Served) -> Result<DeviceSnapshot, Refusal> {
    let asker = served.asker.clone();
    let seen = blocking(move || asker.snapshot()).await?;
    seen.ok_or_else(|| match api.has(&served) {
        true => busy(&served.name),
        false => unknown(served.name.as_str()),
    })
}

fn unknown(name: &str) -> Refusal {
    let reason = format!("device {name} is not served here: see pollux list");
    Refusal(StatusCode::NOT_FOUND, reason)
}

/// Every device.
#[utoipa::path(get, path = "/v1/devices", tag = "devices",
    responses(
        (status = 200, description = "All that are served, in no order", body = Vec<DeviceSnapshot>),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<DeviceSnapshot>>, Refusal> {
    let mut all = Vec::new();
    for served in api.all() {
        match snapshot(&api, served).await {
            Err(Refusal(StatusCode::NOT_FOUND, _)) => {}
            seen => all.push(seen?),
        }
    }
    Ok(Json(all))
}

/// All metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses(
        (status = 200, description = "Text in the OpenMetrics format", body = String, content_type = "application/openmetrics-text"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Refusal> {
    let looked = blocking(move || {
        let look = |served: Served| {
            let seen = served.asker.snapshot();
            let is_there = seen.is_some() || api.has(&served);
            is_there.then(|| (served.name.to_string(), seen))
        };
        let all = api.all().into_iter();
        all.filter_map(look).collect::<Vec<Seen>>()
    });
    let text = exposition(looked.await?)
        .map_err(|e| Refusal(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

/// Returns what the control thread of the device `name` answers.
pub(super) async fn ask<T: Send + 'static, E: Display + Send + 'static>(
    api: &Api,
    name: &str,
    ask: impl FnOnce(&Asker) -> Option<Result<T, E>> + Send + 'static,
) -> Result<T, Refusal> {
    let Served { name, asker } = api.find(name)?;
    let answered = blocking(move || ask(&asker)).await?;
    let answered = answered.ok_or_else(|| busy(&name))?;
    answered.map_err(|error| Refusal(StatusCode::CONFLICT, error.to_string()))
}

/// One device.
#[utoipa::path(get, path = "/v1/devices/{name}", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    responses(
        (status = 200, description = "What it looks like now", body = DeviceSnapshot),
        (status = "4XX", description = "Refused, or not served here", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<DeviceSnapshot>, Refusal> {
    Ok(Json(snapshot(&api, api.find(&name)?).await?))
}

/// Attach a device to a driver.
///
/// It takes as long as the driver's probe.
#[utoipa::path(post, path = "/v1/devices/{name}/attach", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    request_body = AttachBody,
    responses(
        (status = 200, description = "It is attached", body = AttachedBody),
        (status = "4XX", description = "Refused, not served here, or it cannot be attached", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn attach(
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(AttachBody { driver }): Body<AttachBody>,
) -> Result<Json<AttachedBody>, Refusal> {
    let Served { name, asker } = api.find(&name)?;
    let attached = blocking(move || asker.attach(&name, driver)).await?;
    let attached = attached.map_err(|e| Refusal(StatusCode::CONFLICT, e.to_string()))?;
    let node = attached.node.map(|node| node.display().to_string());
    Ok(Json(AttachedBody {
        driver: attached.driver,
        node,
    }))
}

/// Detach a device from its driver.
///
/// It takes as long as the driver takes to let go.
#[utoipa::path(post, path = "/v1/devices/{name}/detach", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    responses(
        (status = 200, description = "It is detached", body = ()),
        (status = "4XX", description = "Refused, not served here, or it cannot be detached", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn detach(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<()>, Refusal> {
    let Served { name, asker } = api.find(&name)?;
    let work = move || {
        asker.set_leaving(true);
        vdpa::detach(&name).inspect_err(|_| asker.set_leaving(false))
    };
    let detached = blocking(work).await?;
    detached
        .map(Json)
        .map_err(|e| Refusal(StatusCode::CONFLICT, e.to_string()))
}

/// Let go of a device for another daemon.
///
/// What is in flight is finished; the driver waits until the other daemon serves it.
#[utoipa::path(post, path = "/v1/devices/{name}/hand-over", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    responses(
        (status = 200, description = "Nobody serves it now", body = HandedOver),
        (status = "4XX", description = "Refused, not served here, or it cannot be let go of now", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn hand_over(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<HandedOver>, Refusal> {
    let name = api.find(&name)?.name;
    let handed_over = blocking(move || api.requests.hand_over(name)).await?;
    handed_over
        .map(Json)
        .map_err(|reason| Refusal(StatusCode::CONFLICT, reason))
}

/// Read the configuration anew.
///
/// New devices are served, gone ones removed, the others left alone.
#[utoipa::path(post, path = "/v1/reload", tag = "daemon",
    responses(
        (status = 200, description = "It was read", body = Reloaded),
        (status = "4XX", description = "Refused, or there is no sound configuration", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn reload(State(api): State<Api>) -> Result<Json<Reloaded>, Refusal> {
    let reloaded = blocking(move || api.requests.reload()).await?;
    reloaded
        .map(Json)
        .map_err(|reason| Refusal(StatusCode::CONFLICT, reason))
}

/// Change the size of a disk while it is in use.
#[utoipa::path(post, path = "/v1/devices/{name}/resize", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    request_body = ResizeBody,
    responses(
        (status = 200, description = "It has that size", body = ResizedBody),
        (status = "4XX", description = "Refused, not served here, or it cannot have that size", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn resize(
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(ResizeBody { size_bytes, force }): Body<ResizeBody>,
) -> Result<Json<ResizedBody>, Refusal> {
    let resized = ask(&api, &name, move |asker| asker.resize(size_bytes, force)).await?;
    Ok(Json(ResizedBody {
        name: resized.name.to_string(),
        before_bytes: resized.before_bytes,
        after_bytes: resized.after_bytes,
    }))
}
