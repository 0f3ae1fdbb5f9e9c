//! The client's side: finds the daemon that serves a device, and asks it.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{AttachBody, AttachedBody, ErrorBody, HandedOver, ResizeBody, ResizedBody};
use crate::daemon::{Reloaded, SOCKET_SUFFIX};
use crate::device::DeviceSnapshot;
use crate::vdpa::Driver;

/// Why a daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon serves it.
    #[error(
        "device {name} is not served: see pollux list, or start it with pollux serve --name {name}"
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// No daemon at all.
    #[error("no daemon has its socket in {path}: start one with pollux serve")]
    Nobody {
        /// The runtime directory.
        path: PathBuf,
    },
    /// The daemon refused, in its own words.
    #[error("{0}")]
    Refused(String),
    /// The folder with the sockets cannot be read.
    #[error("cannot look for daemons in {path}: {reason}; run as the user that serves")]
    Folder {
        /// The runtime directory.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The connection failed half-way.
    #[error("the daemon behind {socket} does not answer: {reason}")]
    Connection {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What one look at every daemon brought.
#[derive(Debug, Default)]
pub struct Survey {
    /// Every device of the daemons that answered, sorted by name.
    pub devices: Vec<DeviceSnapshot>,
    /// Why the others did not, an error each.
    pub silent: Vec<ClientError>,
}

/// Asks the daemons that have their sockets in one runtime directory.
#[derive(Clone, Debug)]
pub struct Client {
    runtime_dir: PathBuf,
}

impl Client {
    /// Returns a client of the daemons in `runtime_dir`.
    pub fn new(runtime_dir: impl Into<PathBuf>) -> Self {
        Self {
            runtime_dir: runtime_dir.into(),
        }
    }

    /// Returns every device that any daemon serves, sorted by name.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when the sockets cannot be found or a daemon does not answer.
    pub fn list(&self) -> Result<Vec<DeviceSnapshot>, ClientError> {
        let Survey { devices, silent } = self.survey(Duration::MAX)?;
        silent.into_iter().next().map_or(Ok(devices), Err)
    }

    /// Asks all daemons at once for their devices, and waits for each no longer than `patience`. One that does not answer
    /// takes nothing from the others.
    ///
    /// # Errors
    ///
    /// [`ClientError::Folder`] when the sockets cannot be found.
    pub fn survey(&self, patience: Duration) -> Result<Survey, ClientError> {
        type Answer = Result<Option<Vec<DeviceSnapshot>>, ClientError>;
        let sockets = self.sockets()?;
        let look = |socket| ask_within(socket, "/v1/devices", None::<&()>, patience);
        let answers: Vec<Answer> = thread::scope(|scope| {
            let asked = sockets
                .iter()
                .map(|socket| scope.spawn(move || look(socket)));
            let asked: Vec<_> = asked.collect();
            let pass_on = |panicked| std::panic::resume_unwind(panicked);
            let answers = asked
                .into_iter()
                .map(|asked| asked.join().unwrap_or_else(pass_on));
            answers.collect()
        });
        let mut survey = Survey::default();
        for answer in answers {
            match answer {
                Ok(devices) => survey.devices.extend(devices.unwrap_or_default()),
                Err(error) => survey.silent.push(error),
            }
        }
        survey.devices.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(survey)
    }

    /// Returns the device `name`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or its daemon does not answer.
    pub fn show(&self, name: &str) -> Result<DeviceSnapshot, ClientError> {
        let (_, device) = self.find(name)?;
        Ok(device)
    }

    /// Attaches the device `name` to `driver`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or the kernel refuses.
    pub fn attach(&self, name: &str, driver: Driver) -> Result<AttachedBody, ClientError> {
        let (socket, _) = self.find(name)?;
        let path = format!("/v1/devices/{name}/attach");
        ask(&socket, &path, Some(&AttachBody { driver }))?
            .ok_or_else(|| ClientError::Unknown { name: name.into() })
    }

    /// Detaches the device `name`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or the kernel refuses.
    pub fn detach(&self, name: &str) -> Result<(), ClientError> {
        let (socket, _) = self.find(name)?;
        let path = format!("/v1/devices/{name}/detach");
        ask::<()>(&socket, &path, Some(&()))?
            .ok_or_else(|| ClientError::Unknown { name: name.into() })
    }

    /// Has the daemon that serves the device `name` let go of it for this process. Returns `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when its daemon does not let go of it.
    pub fn hand_over(&self, name: &str) -> Result<Option<HandedOver>, ClientError> {
        match self.find(name) {
            Ok((socket, _)) => ask(&socket, &format!("/v1/devices/{name}/hand-over"), Some(&())),
            Err(ClientError::Unknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the disk of the device `name` as large as `wanted` says.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or it cannot have that size.
    pub fn resize(&self, name: &str, wanted: ResizeBody) -> Result<ResizedBody, ClientError> {
        let (socket, _) = self.find(name)?;
        let path = format!("/v1/devices/{name}/resize");
        ask(&socket, &path, Some(&wanted))?
            .ok_or_else(|| ClientError::Unknown { name: name.into() })
    }

    /// Has every daemon that has a configuration read it anew. Returns what came of each.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when a daemon refuses, or none is there.
    pub fn reload(&self) -> Result<Vec<Reloaded>, ClientError> {
        let (mut all, mut refused) = (Vec::new(), None);
        for socket in self.sockets()? {
            match ask(&socket, "/v1/reload", Some(&())) {
                Ok(reloaded) => all.extend(reloaded),
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if all.is_empty() => Err(error),
            None if all.is_empty() => Err(ClientError::Nobody {
                path: self.runtime_dir.clone(),
            }),
            _ => Ok(all),
        }
    }

    fn find(&self, name: &str) -> Result<(PathBuf, DeviceSnapshot), ClientError> {
        for socket in self.sockets()? {
            // Names have no character that a path would have to escape: VDUSE's rules are stricter.
            if let Some(device) = ask(&socket, &format!("/v1/devices/{name}"), None::<&()>)? {
                return Ok((socket, device));
            }
        }
        Err(ClientError::Unknown { name: name.into() })
    }

    fn sockets(&self) -> Result<Vec<PathBuf>, ClientError> {
        let folder = |reason| ClientError::Folder {
            path: self.runtime_dir.clone(),
            reason,
        };
        let entries = match std::fs::read_dir(&self.runtime_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(folder)?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(folder)?;
        Ok(paths.into_iter().filter(|path| is_socket(path)).collect())
    }
}

/// Returns whether that is a daemon's: its process and [`SOCKET_SUFFIX`]. Others are for frontends, perhaps.
fn is_socket(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let process = name.strip_suffix(SOCKET_SUFFIX);
    process.is_some_and(|process| process.parse::<u32>().is_ok())
}

/// Sends one request: a POST when there is a `body`. Returns the answer; `None` when the daemon is gone
/// or does not know the path.
fn ask<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<Option<T>, ClientError> {
    ask_within(socket, path, body, Duration::MAX)
}

/// As [`ask`], but for no longer than `patience`.
fn ask_within<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: Option<&impl Serialize>,
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
    let body = body
        .map(serde_json::to_vec)
        .transpose()
        .map_err(|e| failed(e.to_string()))?;
    let exchange = async { tokio::time::timeout(patience, exchange(socket, path, body)).await };
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
    if status == hyper::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let error = serde_json::from_slice(&bytes).map_or(text, |body: ErrorBody| body.error);
    Err(ClientError::Refused(error))
}

async fn exchange(
    socket: &Path,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<Option<(hyper::StatusCode, Bytes)>, String> {
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
    let method = if body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "pollux")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_daemons_sockets_are_asked() {
        assert!(is_socket(Path::new("/run/pollux/123.sock")));
        for other in ["d0.sock", "123", "123.lock", ".sock"] {
            assert!(!is_socket(&Path::new("/run/pollux").join(other)), "{other}");
        }
    }
}
