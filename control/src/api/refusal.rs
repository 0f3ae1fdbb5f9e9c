//! What the server answers instead of a result: always JSON, and always what to do.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use tokio::task::{JoinError, spawn_blocking};
use vduse::Name;

use super::ErrorBody;

/// What a handler answers instead of a result.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

/// The body of a request.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let refuse = |rejection: JsonRejection| Refusal(rejection.status(), rejection.body_text());
        let body = Json::from_request(request, state).await;
        body.map(|Json(body)| Self(body)).map_err(refuse)
    }
}

/// Answers for a path that nobody has.
pub(super) async fn unknown_path(uri: Uri) -> Refusal {
    let reason = format!(
        "{}: no such path; GET /v1/devices names the devices",
        uri.path()
    );
    Refusal(StatusCode::NOT_FOUND, reason)
}

/// Answers for a path that is there, for another method.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let reason = format!("{}: not for {method}", uri.path());
    Refusal(StatusCode::METHOD_NOT_ALLOWED, reason)
}

/// Answers whoever the kernel says is neither root nor the daemon's own user.
pub(super) async fn forbidden() -> Refusal {
    let reason = format!("only root and user {} may use this socket", geteuid());
    Refusal(StatusCode::FORBIDDEN, reason)
}

/// Returns `response`, its error as JSON if it is one: the framework's own are plain text.
pub(super) async fn in_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes() == b"application/json");
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let body = response.into_body().collect().await;
    let text = body.map(|body| body.to_bytes()).unwrap_or_default();
    Refusal(status, String::from_utf8_lossy(&text).into_owned()).into_response()
}

/// Runs what blocks outside of the server's own thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |error: JoinError| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    spawn_blocking(work).await.map_err(failed)
}

/// What is said of a device whose control thread says nothing.
pub(super) fn busy(name: &Name) -> Refusal {
    let busy = format!("device {name} does not answer: its control thread waits for a worker");
    Refusal(StatusCode::SERVICE_UNAVAILABLE, busy)
}
