//! The control thread of a device that is served over vhost-user: its frontend's messages, and what others ask.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use pollux_dataplane::backend::Backend;
use pollux_dataplane::worker::PollMode;
use tracing::{error, info, warn};
use vhost::vhost_user::{BackendReqHandler, Error};

use super::super::thread::REST_POLL_MS;
use super::session::Session;
use super::socket::Socket;
use super::whole;
use crate::device::handle::Ask;
use crate::device::{
    DeviceOptions, DeviceSnapshot, Disk, PauseError, ResizeError, ServeError, UmemKind,
};

/// Whose event it is.
const FRONTEND: u64 = 0;
const WAKE: u64 = 1;

/// How often workers are looked after.
const WATCH_POLL_MS: u8 = 250;

/// How long a frontend may take for the rest of a message that it has begun.
const MESSAGE_TIME: Duration = Duration::from_secs(5);

/// A frontend that is connected.
struct Frontend {
    messages: BackendReqHandler<Mutex<Session>>,
    /// The same socket, to wait for.
    stream: UnixStream,
}

pub(super) struct VhostUserThread {
    pub(super) options: DeviceOptions,
    pub(super) disk: Disk,
    pub(super) socket: Socket,
    pub(super) session: Arc<Mutex<Session>>,
    pub(super) wake: Arc<EventFd>,
    pub(super) inbox: Receiver<Ask>,
}

impl VhostUserThread {
    /// Serves one frontend after another until it is told to end. Returns whether all threads ended.
    pub(super) fn run(self) -> bool {
        let looped = self.serve();
        if let Err(errno) = looped {
            error!(device = %self.options.name, "the control thread cannot go on: {errno}");
        }
        let mut session = self.session();
        let stopped = session.hang_up();
        let workers = session.take_workers();
        workers.end() && stopped && looped.is_ok()
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) -> nix::Result<()> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let event = |data| EpollEvent::new(EpollFlags::EPOLLIN, data);
        epoll.add(self.wake.as_fd(), event(WAKE))?;
        epoll.add(&self.socket.listener, event(FRONTEND))?;
        let mut frontend: Option<Frontend> = None;
        let mut resting = false;
        loop {
            let timeout = match &self.session().workers {
                _ if resting => EpollTimeout::from(REST_POLL_MS),
                workers if workers.need_watch() => EpollTimeout::from(WATCH_POLL_MS),
                _ => EpollTimeout::NONE,
            };
            let mut ready = [EpollEvent::empty(); 2];
            let count = match epoll.wait(&mut ready, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for event in &ready[..count] {
                if event.data() == WAKE {
                    if self.answer_asks() {
                        return Ok(());
                    }
                    continue;
                }
                match &mut frontend {
                    None => {
                        frontend = self.accept();
                        if let Some(frontend) = &frontend {
                            // The next one waits in the queue of the socket.
                            epoll.delete(&self.socket.listener)?;
                            let event = EpollEvent::new(EpollFlags::EPOLLIN, FRONTEND);
                            epoll.add(&frontend.stream, event)?;
                        }
                    }
                    Some(connected) => {
                        let whole = whole::wait(&connected.stream, MESSAGE_TIME);
                        let handled = whole
                            .map_err(Error::SocketBroken)
                            .and_then(|()| connected.messages.handle_request());
                        if let Err(reason) = handled {
                            epoll.delete(&connected.stream)?;
                            self.hang_up(&reason);
                            frontend = None;
                            let event = EpollEvent::new(EpollFlags::EPOLLIN, FRONTEND);
                            epoll.add(&self.socket.listener, event)?;
                        }
                    }
                }
            }
            let workers = &mut self.session().workers;
            workers.watch(self.options.io_timeout, false);
            // Not before a while has passed since the last event: a worker that sleeps between requests would tell of each.
            resting = count == 0 && workers.rest();
            self.disk.tell_event(&self.options.name);
        }
    }

    fn accept(&self) -> Option<Frontend> {
        let accepted = self.socket.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(MESSAGE_TIME))?;
            let messages = stream.try_clone()?;
            Ok((stream, messages))
        });
        match accepted {
            Ok((stream, messages)) => {
                info!(device = %self.options.name, "a frontend has connected");
                self.session().problem = None;
                Some(Frontend {
                    messages: BackendReqHandler::from_stream(messages, Arc::clone(&self.session)),
                    stream,
                })
            }
            // It has gone already.
            Err(reason) if reason.kind() == io::ErrorKind::WouldBlock => None,
            Err(reason) => {
                warn!(device = %self.options.name, "a frontend cannot be accepted: {reason}");
                None
            }
        }
    }

    /// Ends what was served for a frontend that is gone, or makes no sense.
    fn hang_up(&self, reason: &Error) {
        let mut session = self.session();
        let name = &self.options.name;
        match reason {
            Error::Disconnected => info!(device = %name, "the frontend has disconnected"),
            reason => {
                warn!(device = %name, "hung up on the frontend: {reason}");
                session.problem = Some(format!("hung up on its last frontend: {reason}"));
            }
        }
        if !session.hang_up() {
            error!(device = %name, "a worker did not let go of the frontend's memory in time");
        }
    }

    /// Answers what other threads ask. Returns whether to end.
    fn answer_asks(&self) -> bool {
        // Cleared before the inbox is looked at, so that no ask is overlooked.
        let _ = self.wake.read();
        while let Ok(ask) = self.inbox.try_recv() {
            let name = || self.options.name.clone();
            match ask {
                Ask::Snapshot(answer) => drop(answer.send(self.snapshot())),
                Ask::HandOver(answer) => drop(answer.send(None)),
                Ask::Resize { answer, .. } => {
                    let _ = answer.send(Err(ResizeError::VhostUser { name: name() }));
                }
                Ask::Renew(answer) => {
                    let path = self.socket.path().to_owned();
                    let _ = answer.send(Err(ServeError::VhostUser { name: name(), path }));
                }
                Ask::Leaving(_) => {}
                Ask::Pause(answer) => drop(answer.send(self.pause())),
                Ask::Resume(answer) => {
                    self.session().resume();
                    let _ = answer.send(Ok(()));
                }
                Ask::Alive(answer) => drop(answer.send(())),
                Ask::End => return true,
            }
        }
        false
    }

    /// Stands still for a person, until it is to go on or the frontend is gone.
    fn pause(&self) -> Result<(), PauseError> {
        let mut session = self.session();
        let name = self.options.name.clone();
        if !session.is_used() {
            return Err(PauseError::Unused(name));
        }
        match session.pause() {
            true => Ok(()),
            false => Err(PauseError::Late(name)),
        }
    }

    fn snapshot(&self) -> DeviceSnapshot {
        let mut session = self.session();
        let state = match session.paused {
            true => "paused",
            false if session.is_used() => "running",
            false => "reset",
        };
        DeviceSnapshot {
            name: self.options.name.to_string(),
            backend: self.options.backend.to_string(),
            capacity_bytes: self.disk.geometry().size_bytes(),
            status: 0,
            state: state.into(),
            problem: session.problem.clone(),
            features: session.features.bits(),
            driver: Some("vhost-user".into()),
            node: Some(self.socket.path().display().to_string()),
            pool: self.options.pool.clone(),
            mode: match self.options.mode {
                PollMode::Busy => "busy",
                PollMode::Adaptive(_) => "adaptive",
                PollMode::Event => "event",
            }
            .into(),
            msg_timeout_s: None,
            io_timeout_s: self.options.io_timeout.map(|time| time.as_secs()),
            taken_over: false,
            api_version: 0,
            protocol_features: Vec::new(),
            bounce_size_bytes: None,
            umem: UmemKind::Off,
            umem_reason: None,
            resets: session.resets,
            recoveries: session.recoveries,
            queues: session.workers.stats(),
        }
    }
}
