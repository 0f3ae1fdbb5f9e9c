//! The server's side, on a thread of its own: nothing on the data path waits for a client.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use vduse::Name;

use super::connections;
use super::health;
use super::metrics::{self, Seen, exposition};
use super::refusal::{self, Body, Refusal, blocking, busy};
use super::{AttachBody, AttachedBody, HandedOver, ResizeBody, ResizedBody};
use crate::daemon::{Reloaded, Requests};
use crate::device::{Asker, DeviceSnapshot};
use crate::vdpa;

/// A device that this daemon serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name.
    pub name: Name,
    /// A way to ask it.
    pub asker: Asker,
}

/// Why the API cannot be offered.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}: {reason}")]
pub(crate) struct ApiError {
    path: PathBuf,
    reason: io::Error,
}

/// The running server. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub(crate) struct ApiServer {
    path: PathBuf,
    devices: Devices,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Serves `devices` on a socket at `path`, which only its owner may use.
    pub(crate) fn start(
        path: &FilePath,
        devices: Vec<Served>,
        requests: Requests,
    ) -> Result<Self, ApiError> {
        let refuse = |reason| ApiError {
            path: path.to_owned(),
            reason,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(refuse)?;
        let listener = {
            let _context = runtime.enter();
            UnixListener::bind(path).map_err(refuse)?
        };
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(refuse)?;
        let (end, ended) = oneshot::channel::<()>();
        let devices = Arc::new(RwLock::new(devices));
        let router = router(Api {
            devices: Arc::clone(&devices),
            requests,
        });
        let body = move || {
            runtime.block_on(connections::serve(listener, router, ended));
            // What still blocks may wait for the daemon's own thread, which waits for this one.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("api".into())
            .spawn(body)
            .map_err(refuse)?;
        Ok(Self {
            path: path.to_owned(),
            devices,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl ApiServer {
    /// Knows of one device more.
    pub(crate) fn remember(&self, served: Served) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.push(served);
    }

    /// Knows nothing of the device `name` any more.
    pub(crate) fn forget(&self, name: &Name) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|served| served.name != *name);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of its own has been printed.
            let _ = thread.join();
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("{} stays behind: {error}", self.path.display());
        }
    }
}

type Devices = Arc<RwLock<Vec<Served>>>;

/// Far more than any request needs.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What handlers work with.
#[derive(Clone)]
pub(super) struct Api {
    devices: Devices,
    requests: Requests,
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/version", get(health::version))
        .route("/v1/health", get(health::health))
        .route("/v1/devices", get(list))
        .route("/v1/devices/{name}", get(show))
        .route("/v1/devices/{name}/attach", post(attach))
        .route("/v1/devices/{name}/detach", post(detach))
        .route("/v1/devices/{name}/hand-over", post(hand_over))
        .route("/v1/devices/{name}/resize", post(resize))
        .route("/v1/reload", post(reload))
        .route("/metrics", get(metrics))
        .fallback(refusal::unknown_path)
        .method_not_allowed_fallback(refusal::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

impl Api {
    /// Returns every device.
    pub(super) fn all(&self) -> Vec<Served> {
        let devices = self.devices.read();
        devices.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, name: &str) -> Result<Served, Refusal> {
        let found = self
            .all()
            .into_iter()
            .find(|served| served.name.as_str() == name);
        let unknown = || format!("device {name} is not served here: see pollux list");
        found.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, unknown()))
    }
}

async fn snapshot(served: Served) -> Result<DeviceSnapshot, Refusal> {
    let name = served.name.clone();
    let seen = blocking(move || served.asker.snapshot()).await?;
    seen.ok_or_else(|| busy(&name))
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<DeviceSnapshot>>, Refusal> {
    let mut all = Vec::new();
    for served in api.all() {
        all.push(snapshot(served).await?);
    }
    Ok(Json(all))
}

async fn metrics(State(api): State<Api>) -> Result<Response, Refusal> {
    let looked = blocking(move || {
        let all = api.all().into_iter();
        all.map(|served| (served.name.to_string(), served.asker.snapshot()))
            .collect::<Vec<Seen>>()
    });
    let text = exposition(looked.await?)
        .map_err(|e| Refusal(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn show(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<DeviceSnapshot>, Refusal> {
    Ok(Json(snapshot(api.find(&name)?).await?))
}

async fn attach(
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

async fn detach(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<()>, Refusal> {
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

async fn hand_over(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<HandedOver>, Refusal> {
    let name = api.find(&name)?.name;
    let handed_over = blocking(move || api.requests.hand_over(name)).await?;
    handed_over
        .map(Json)
        .map_err(|reason| Refusal(StatusCode::CONFLICT, reason))
}

async fn reload(State(api): State<Api>) -> Result<Json<Reloaded>, Refusal> {
    let reloaded = blocking(move || api.requests.reload()).await?;
    reloaded
        .map(Json)
        .map_err(|reason| Refusal(StatusCode::CONFLICT, reason))
}

async fn resize(
    State(api): State<Api>,
    Path(name): Path<String>,
    Body(ResizeBody { size_bytes, force }): Body<ResizeBody>,
) -> Result<Json<ResizedBody>, Refusal> {
    let Served { name, asker } = api.find(&name)?;
    let resized = blocking(move || asker.resize(size_bytes, force)).await?;
    let resized = resized.ok_or_else(|| busy(&name))?;
    let resized = resized.map_err(|e| Refusal(StatusCode::CONFLICT, e.to_string()))?;
    Ok(Json(ResizedBody {
        name: resized.name.to_string(),
        before_bytes: resized.before_bytes,
        after_bytes: resized.after_bytes,
    }))
}
