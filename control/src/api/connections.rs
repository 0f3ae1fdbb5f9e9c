//! Connections of clients: so many at a time, of those who may, and none that is slow to say what it wants or to read
//! what it is told.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;

use super::refusal;

/// Clients at one time; the next ones wait in the socket's queue. Each takes a file of the daemon's, and devices need files, too.
const CONNECTIONS_MAX: usize = 64;
/// What a client has for the head of a request, and as long it may keep a connection that it does not use.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// What a client has to make room for more of an answer.
const READ_TIME: Duration = Duration::from_secs(10);
/// What requests under way have when the daemon ends, which waits for nobody's sake longer.
const END_TIME: Duration = Duration::from_secs(2);
/// Before another try, where the system had no file left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients connect.
#[derive(Debug)]
pub(super) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

enum Client {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Client> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|it| Client::Unix(it.0)),
            Self::Tcp(listener) => listener.accept().await.map(|it| Client::Tcp(it.0)),
        }
    }
}

/// Serves who connects, each listener's clients with its own router, until `ended`; requests under way are finished, if
/// that does not take long.
pub(super) async fn serve(listeners: Vec<(Listener, Router)>, ended: oneshot::Receiver<()>) {
    let graceful = Arc::new(GracefulShutdown::new());
    let mut accepting = JoinSet::new();
    for (listener, router) in listeners {
        accepting.spawn(accept(listener, router, Arc::clone(&graceful)));
    }
    // A dropped sender means the end, too.
    let _ = ended.await;
    // It has no other owner once they have ended.
    accepting.shutdown().await;
    if let Some(graceful) = Arc::into_inner(graceful)
        && timeout(END_TIME, graceful.shutdown()).await.is_err()
    {
        tracing::debug!("clients of the control API are hung up on half-way");
    }
}

async fn accept(listener: Listener, router: Router, graceful: Arc<GracefulShutdown>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // It is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let watcher = graceful.watcher();
        match listener.accept().await {
            Ok(Client::Unix(stream)) => {
                let router = match is_allowed(&stream) {
                    true => router.clone(),
                    false => Router::new().fallback(refusal::forbidden),
                };
                tokio::spawn(answer(stream, router, watcher, slot));
            }
            Ok(Client::Tcp(stream)) => {
                tokio::spawn(answer(stream, router.clone(), watcher, slot));
            }
            Err(reason) => {
                tracing::warn!("the control API cannot accept a client: {reason}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether the client is root's or the daemon's own user's. The socket's mode says the same; it may have been changed.
fn is_allowed(stream: &UnixStream) -> bool {
    let user = stream.peer_cred().map(|peer| peer.uid());
    user.is_ok_and(|user| user == 0 || user == geteuid().as_raw())
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    watcher: Watcher,
    _slot: OwnedSemaphorePermit,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READ_TIME));
    let service = TowerToHyperService::new(router);
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
    if let Err(reason) = watcher.watch(connection).await {
        // The client's own affair: it left, or was too slow.
        tracing::debug!("a client of the control API: {reason}");
    }
}
