//! Connections of clients: so many at a time, of those who may, and none that is slow to say what it wants or to read
//! what it is told.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;

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

/// Serves who connects, until `ended`; requests under way are finished, if that does not take long.
pub(super) async fn serve(listener: UnixListener, router: Router, ended: oneshot::Receiver<()>) {
    let graceful = Arc::new(GracefulShutdown::new());
    let accepting = tokio::spawn(accept(listener, router, Arc::clone(&graceful)));
    // A dropped sender means the end, too.
    let _ = ended.await;
    accepting.abort();
    // It has no other owner once that has ended.
    let _ = accepting.await;
    if let Some(graceful) = Arc::into_inner(graceful)
        && timeout(END_TIME, graceful.shutdown()).await.is_err()
    {
        tracing::debug!("clients of the control API are hung up on half-way");
    }
}

async fn accept(listener: UnixListener, router: Router, graceful: Arc<GracefulShutdown>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // It is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) if is_allowed(&stream) => {
                tokio::spawn(answer(stream, router.clone(), graceful.watcher(), slot));
            }
            Ok(_) => {}
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

async fn answer(stream: UnixStream, router: Router, watcher: Watcher, _slot: OwnedSemaphorePermit) {
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
