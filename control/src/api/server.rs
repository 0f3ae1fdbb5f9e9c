//! The server's side, on a thread of its own: nothing on the data path waits for a client.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use axum::middleware::from_fn_with_state;
use nix::unistd::{Pid, gettid};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use vduse::Name;

use super::connections::{self, Listener};
use super::router::router;
use super::token::{self, Token};
use super::{DeviceKey, LogControl};
use crate::daemon::{Requests, Wanted};
use crate::device::Asker;

/// A device that this daemon serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name.
    pub name: Name,
    /// A way to ask it.
    pub asker: Asker,
}

/// How the API is offered.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Where it is offered over TCP, if it is, and what clients have to know then.
    pub listen: Option<(SocketAddr, Token)>,
    /// What logs.
    pub log: Arc<dyn LogControl>,
    /// What reads the description of a device, where devices can be added and removed.
    pub read_device: Option<ReadDevice>,
    /// The keys that it takes, for the OpenAPI document.
    pub device_keys: Arc<[DeviceKey]>,
}

/// Reads a device from keys and values as the configuration has them, or says on one line what is wrong.
pub type ReadDevice = fn(&BTreeMap<String, String>) -> Result<Wanted, String>;

/// Why the API cannot be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("cannot listen on {}: {reason}", path.display())]
    Socket { path: PathBuf, reason: io::Error },
    #[error("cannot listen on {address}: {reason}; use another address with --listen")]
    Tcp {
        address: SocketAddr,
        reason: io::Error,
    },
}

/// The running server. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub(crate) struct ApiServer {
    path: PathBuf,
    address: Option<SocketAddr>,
    devices: Devices,
    end: Option<oneshot::Sender<()>>,
    thread_id: Pid,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Serves `devices` on a socket at `path`, which only its owner may use.
    pub(crate) fn start(
        path: &FilePath,
        devices: Vec<Served>,
        requests: Requests,
        options: &ApiOptions,
    ) -> Result<Self, ApiError> {
        let refuse = |reason| ApiError::Socket {
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
            log: Arc::clone(&options.log),
            read_device: options.read_device,
            device_keys: Arc::clone(&options.device_keys),
        });
        let mut listeners = Vec::new();
        let mut address = None;
        if let Some((asked, token)) = &options.listen {
            let (listener, bound) = bind(&runtime, *asked)?;
            let required = from_fn_with_state(token.clone(), token::require);
            listeners.push((listener, router.clone().layer(required)));
            address = Some(bound);
        }
        listeners.push((Listener::Unix(listener), router));
        let (started, is_started) = sync_channel(1);
        let body = move || {
            // It is waited for.
            let _ = started.send(gettid());
            runtime.block_on(connections::serve(listeners, ended));
            // What still blocks may wait for the daemon's own thread, which waits for this one.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("api".into())
            .spawn(body)
            .map_err(refuse)?;
        Ok(Self {
            path: path.to_owned(),
            address,
            devices,
            end: Some(end),
            thread_id: is_started.recv().map_err(|e| refuse(io::Error::other(e)))?,
            thread: Some(thread),
        })
    }
}

impl ApiServer {
    /// Returns where it is offered over TCP.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Returns the thread that answers (gettid(2)), whose CPUs those have that it starts.
    pub(crate) fn thread_id(&self) -> Pid {
        self.thread_id
    }

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

/// Listens on `asked`. Returns where that is.
fn bind(runtime: &Runtime, asked: SocketAddr) -> Result<(Listener, SocketAddr), ApiError> {
    let refuse = |reason| ApiError::Tcp {
        address: asked,
        reason,
    };
    let listener = runtime.block_on(TcpListener::bind(asked)).map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    Ok((Listener::Tcp(listener), bound))
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

/// What handlers work with.
#[derive(Clone)]
pub(super) struct Api {
    devices: Devices,
    pub(super) requests: Requests,
    pub(super) log: Arc<dyn LogControl>,
    pub(super) read_device: Option<ReadDevice>,
    pub(super) device_keys: Arc<[DeviceKey]>,
}

impl Api {
    /// Returns every device.
    pub(super) fn all(&self) -> Vec<Served> {
        let devices = self.devices.read();
        devices.unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Returns whether `served` is one of them still: one that is removed meanwhile answers nothing.
    pub(super) fn has(&self, served: &Served) -> bool {
        self.all().iter().any(|it| it.asker.is_same(&served.asker))
    }
}
