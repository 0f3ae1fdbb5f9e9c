//! One request to one daemon.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::ClientError;
use crate::api::ErrorBody;

/// What a daemon is asked.
pub(super) struct Asked {
    method: Method,
    path: String,
    /// JSON, or why there is none.
    body: Result<Vec<u8>, serde_json::Error>,
}

impl Asked {
    pub(super) fn get(path: &str) -> Self {
        Self::new(Method::GET, path, Ok(Vec::new()))
    }

    pub(super) fn post(path: &str, body: &impl Serialize) -> Self {
        Self::new(Method::POST, path, serde_json::to_vec(body))
    }

    pub(super) fn put(path: &str, body: &impl Serialize) -> Self {
        Self::new(Method::PUT, path, serde_json::to_vec(body))
    }

    pub(super) fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path, Ok(Vec::new()))
    }

    fn new(method: Method, path: &str, body: Result<Vec<u8>, serde_json::Error>) -> Self {
        let path = path.to_owned();
        Self { method, path, body }
    }
}

/// Asks the daemon behind `socket`. Returns the answer; `None` when the daemon is gone or does not know the path.
pub(super) fn ask<T: DeserializeOwned>(
    socket: &Path,
    asked: Asked,
) -> Result<Option<T>, ClientError> {
    ask_within(socket, asked, Duration::MAX)
}

/// As [`ask`], but for no longer than `patience`.
pub(super) fn ask_within<T: DeserializeOwned>(
    socket: &Path,
    asked: Asked,
    patience: Duration,
) -> Result<Option<T>, ClientError> {
    let failed = |reason: String| ClientError::Connection {
        socket: socket.into(),
        reason,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| failed(e.to_string()))?;
    let exchange = async { tokio::time::timeout(patience, exchange(socket, asked)).await };
    let answer = runtime.block_on(exchange);
    let late = |_| failed(format!("nothing came within {} s", patience.as_secs_f64()));
    let Some((status, bytes)) = answer.map_err(late)?.map_err(failed)? else {
        return Ok(None);
    };
    if status.is_success() {
        return serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| failed(e.to_string()));
    }
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let error = serde_json::from_slice(&bytes).map_or(text, |body: ErrorBody| body.error);
    Err(ClientError::Refused(error))
}

async fn exchange(socket: &Path, asked: Asked) -> Result<Option<(StatusCode, Bytes)>, String> {
    let Asked { method, path, body } = asked;
    let body = body.map_err(|e| e.to_string())?;
    let stream = match UnixStream::connect(socket).await {
        // A daemon that was killed leaves its socket behind.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let _ = std::fs::remove_file(socket);
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(format!("{error}; run as the user that serves"));
        }
        other => other.map_err(|e| e.to_string())?,
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|e| e.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "pollux")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())?;
    let status = response.status();
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(|e| e.to_string())?
        .to_bytes();
    drop(sender);
    let _ = connection.await;
    Ok(Some((status, bytes)))
}
