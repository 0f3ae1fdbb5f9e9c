//! Connections of clients: so many at a time, of those who may, and none that is slow to say what it wants or to read
//! what it is told.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
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

use super::refusal::{self, Refusal};
use super::silence::{Connection, Silent};

/// Clients at one time; for the next one the one that is silent for longest is hung up on, or it waits for one that is not.
/// Each takes a file of the daemon's, and devices need files, too.
const CONNECTIONS_MAX: usize = 64;
/// What a client has for the head of a request, and as long it may keep a connection that it does not use.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Far more than the head of any request needs.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What a client has for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Far more than any request needs.
const BODY_BYTES_MAX: usize = 64 << 10;
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
    let silent = Arc::new(Silent::default());
    loop {
        let client = match listener.accept().await {
            Ok(client) => client,
            Err(reason) => {
                tracing::warn!("the control API cannot accept a client: {reason}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let slot = room(&slots, &silent).await;
        let watcher = graceful.watcher();
        let connection = Connection::new(Arc::clone(&silent));
        match client {
            Client::Unix(stream) => {
                let router = match is_allowed(&stream) {
                    true => router.clone(),
                    false => Router::new().fallback(refusal::forbidden),
                };
                tokio::spawn(answer(stream, router, watcher, connection, slot));
            }
            Client::Tcp(stream) => {
                tokio::spawn(answer(stream, router.clone(), watcher, connection, slot));
            }
        }
    }
}

/// Returns room for a client, and makes some where clients that say nothing take all of it.
async fn room(slots: &Arc<Semaphore>, silent: &Silent) -> OwnedSemaphorePermit {
    loop {
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return slot;
        }
        // What is free then is taken in the next round.
        drop(timeout(silent.hang_up_on_one(), slots.acquire()).await);
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
    connection: Connection,
    _slot: OwnedSemaphorePermit,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    http.max_buf_size(HEAD_BYTES_MAX);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READ_TIME));
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| answer_one(request, &router, &connection));
    let served = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::select! {
        // What it has sent is read before it is hung up on.
        biased;
        ended = watcher.watch(served) => if let Err(reason) = ended {
            // The client's own affair: it left, or was too slow.
            tracing::debug!("a client of the control API: {reason}");
        },
        () = connection.is_hung_up_on() => {
            tracing::debug!("a silent client of the control API makes room for another");
        }
    }
}

/// Answers a request once it is whole.
async fn answer_one(
    request: Request<Incoming>,
    router: &TowerToHyperService<Router>,
    connection: &Connection,
) -> Result<Response, Infallible> {
    let (head, body) = request.into_parts();
    let response = match whole(body).await {
        Ok(body) => {
            connection.has_spoken();
            router
                .call(Request::from_parts(head, Full::new(body)))
                .await
        }
        Err(refusal) => Ok(refusal.into_response()),
    };
    connection.falls_silent();
    response
}

/// Returns all of `body`.
async fn whole(body: Incoming) -> Result<Bytes, Refusal> {
    let late = |_| {
        let reason = format!("no whole body within {} s", BODY_TIME.as_secs());
        Refusal(StatusCode::REQUEST_TIMEOUT, reason)
    };
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    let collected = timeout(BODY_TIME, collected).await.map_err(late)?;
    let body = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => {
            let reason = format!("the body is longer than the limit of {BODY_BYTES_MAX} bytes");
            Refusal(StatusCode::PAYLOAD_TOO_LARGE, reason)
        }
        false => Refusal(StatusCode::BAD_REQUEST, format!("no whole body: {error}")),
    });
    Ok(body?.to_bytes())
}
