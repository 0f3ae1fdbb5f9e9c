//! From the first device to the last: make, attach, wait, detach, unmake.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::signal::Signal;
use serde::Serialize;
use vduse::Name;

use super::claim::Claim;
use super::confinement::{confine, tell_why_killed};
use super::service::Service;
use super::{ClaimError, SOCKET_SUFFIX, housekeeping, pressure, signals, sockets};
use crate::api::{ApiError, ApiOptions, ApiServer, ClientError, HandedOver, Served};
use crate::device::{ControlHandle, Crew, PoolError, ServeError};
use crate::sandbox::{DiskPaths, Outside, Sandbox, UserError};
use crate::vdpa::{self, AttachError, Attached, DetachError, Driver};

mod attach;
mod change;
mod leave;
mod make;
mod plan;
mod reload;

use change::{Answer, Change};
pub use plan::{Plan, Wanted};
pub use reload::{Reload, Reloaded};

/// What to serve.
pub struct ServeRequest {
    /// The devices and pools.
    pub plan: Plan,
    /// Where sockets and locks go.
    pub runtime_dir: PathBuf,
    /// Take a device over from a daemon that serves it.
    pub takeover: bool,
    /// What the daemon gives up before.
    pub sandbox: Sandbox,
    /// Who it is to be; who it is already when left out.
    pub user: Option<String>,
    /// Reads anew what is to be served, at SIGHUP and when it is asked for. A daemon that has this serves what it can of
    /// many devices, and goes on without any.
    pub reload: Option<Reload>,
    /// How the API is offered.
    pub api: ApiOptions,
}

/// Why the daemon could not serve.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A name is taken.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A device cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A device is where the configuration has none.
    #[error("device {name}: {reason}")]
    Outside {
        /// Its name.
        name: Name,
        /// What of it.
        reason: Outside,
    },
    /// Threads that devices share cannot be had.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// It cannot be that user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The daemon that serves a device does not let go of it.
    #[error(transparent)]
    HandOver(#[from] ClientError),
    /// The API cannot be offered.
    #[error("{0}")]
    Api(String),
    /// A device cannot be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// Something stays behind.
    #[error("{0}")]
    Unclean(String),
}

impl From<ApiError> for DaemonError {
    fn from(error: ApiError) -> Self {
        Self::Api(error.to_string())
    }
}

/// What happens, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The device exists and is served.
    Serving {
        /// Its name.
        name: String,
    },
    /// The device cannot be served or attached as it was asked for; the others are.
    Failed {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The device is served again, from where another daemon left it.
    TakenOver {
        /// Its name.
        name: String,
        /// The daemon that let go of it; none if it was killed.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<u32>,
        /// Microseconds for which nobody served it then.
        #[serde(skip_serializing_if = "Option::is_none")]
        pause_us: Option<u64>,
    },
    /// Another daemon serves the device from here on.
    HandedOver {
        /// Its name.
        name: String,
    },
    /// Nobody serves the device until the next daemon does.
    Left {
        /// Its name.
        name: String,
    },
    /// It is attached.
    Attached {
        /// Its name.
        name: String,
        /// The driver.
        driver: Driver,
        /// The node under /dev.
        node: Option<PathBuf>,
    },
    /// A step takes long.
    Waiting {
        /// Its name.
        name: String,
        /// What for.
        reason: String,
    },
    /// It is detached.
    Detached {
        /// Its name.
        name: String,
    },
    /// It is gone.
    Stopped {
        /// Its name.
        name: String,
    },
}

/// What wakes the daemon's own thread.
#[derive(Debug)]
enum Wake {
    Signal,
    Leave,
    Change(Change),
    Attached(Name, Result<Attached, AttachError>),
    Detached(Result<(), DetachError>),
    HandOver(Name, Answer<HandedOver>),
}

/// How the daemon has been told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing of it stays.
    Stop,
    /// The next daemon goes on with its devices.
    Leave,
}

/// Serves until SIGINT or SIGTERM, then detaches, drains and destroys every device, or until SIGUSR1, then leaves those
/// that it can to the next daemon. SIGHUP has it read anew what to serve. `watch` is called for each event.
///
/// # Errors
///
/// [`DaemonError`] for the first thing that cannot be had, with everything made until then unmade, or
/// when something stays behind at the end.
pub fn serve(request: ServeRequest, mut watch: impl FnMut(&Event)) -> Result<(), DaemonError> {
    let mut lacks = pressure::prepare();
    let confined = confine(&request, &mut lacks)?;
    let (sender, wakes) = channel();
    let wake = |signal| match signal {
        Signal::SIGUSR1 => Wake::Leave,
        Signal::SIGHUP => Wake::Change(Change::Reload(None)),
        _ => Wake::Signal,
    };
    signals::forward(sender.clone(), wake).map_err(DaemonError::Signals)?;
    let service = Arc::new(Service::start().map_err(DaemonError::Signals)?);
    let ServeRequest {
        plan,
        runtime_dir: folder,
        takeover,
        reload,
        api: api_options,
        ..
    } = request;
    let mut daemon = Daemon {
        devices: Vec::new(),
        folder,
        paths: plan.paths.clone(),
        takeover,
        reload,
        changes: VecDeque::new(),
        end: None,
        api_options,
        api: None,
        service: Arc::clone(&service),
        crew: Crew::new(confined),
        sender,
        wakes,
    };
    let mut watch = |event: &Event| {
        service.note(event);
        watch(event);
    };
    let result = daemon.run(plan, &lacks, &mut watch);
    service.stops();
    let stopped = daemon.stop(&mut watch);
    result.and(stopped)
}

/// A device, and the right to its name, which is given back when the device is gone.
struct Device {
    name: Name,
    control: ControlHandle,
    claim: Claim,
    keys: BTreeMap<String, String>,
    /// The next daemon that is started in the same way serves it, too.
    is_configured: bool,
    /// Where its own threads are.
    cpus: Vec<usize>,
}

struct Daemon {
    devices: Vec<Device>,
    folder: PathBuf,
    /// Where storage has to be since the daemon was started.
    paths: Option<DiskPaths>,
    takeover: bool,
    reload: Option<Reload>,
    /// What it was asked for and has not done.
    changes: VecDeque<Change>,
    /// What it was told while it attached or detached a device.
    end: Option<End>,
    api_options: ApiOptions,
    api: Option<ApiServer>,
    service: Arc<Service>,
    crew: Crew,
    sender: Sender<Wake>,
    wakes: Receiver<Wake>,
}

impl Daemon {
    fn run(
        &mut self,
        plan: Plan,
        lacks: &[String],
        watch: &mut impl FnMut(&Event),
    ) -> Result<(), DaemonError> {
        for pool in plan.pools {
            self.crew.add_pool(pool)?;
        }
        let mut events = Vec::new();
        let (mut prepared, mut failed) = (Vec::new(), None);
        let mut taken = self.taken_cpus();
        for wanted in plan.devices {
            match self.prepare(&wanted, &taken) {
                Ok(device) => {
                    taken.extend(device.cpus());
                    prepared.push((device, wanted));
                }
                Err(error) => events.push(self.tolerate(&wanted, error, &mut failed)?),
            }
        }
        // Before there are control threads, which stay where they began.
        self.keep_house(&taken);
        sockets::remove_dead(&self.folder);
        let mut drivers = Vec::new();
        for (device, wanted) in prepared {
            match self.make(device, wanted.keys.clone()) {
                Ok(event) => {
                    events.push(event);
                    drivers.push((wanted.options.name, wanted.driver));
                }
                Err(error) => events.push(self.tolerate(&wanted, error, &mut failed)?),
            }
        }
        if let (true, Some(error)) = (self.devices.is_empty(), failed) {
            return Err(error);
        }
        self.api = Some(self.offer_api()?);
        // Only now: who may not serve at all has enough to read.
        lacks.iter().for_each(|lack| tracing::warn!("{lack}"));
        tell_why_killed(&events);
        // Whoever waits for these may ask for anything at once.
        events.iter().for_each(&mut *watch);
        for (name, driver) in drivers {
            match self.bind(&name, driver, watch) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if self.reload.is_some() => watch(&make::failed(&name, &error)),
                Err(error) => return Err(error),
            }
        }
        self.service.is_ready();
        self.listen(watch);
        Ok(())
    }

    /// Does what it is asked for, until it is asked to end.
    fn listen(&mut self, watch: &mut impl FnMut(&Event)) {
        loop {
            match self.end.take() {
                Some(End::Stop) => return,
                Some(End::Leave) => return self.leave(watch),
                None => {}
            }
            if let Some(change) = self.changes.pop_front() {
                self.change(change, watch);
                continue;
            }
            match self.wakes.recv() {
                Ok(Wake::Signal) | Err(_) => self.end = Some(End::Stop),
                Ok(Wake::Leave) => self.end = Some(End::Leave),
                Ok(Wake::Change(change)) => self.changes.push_back(change),
                Ok(Wake::HandOver(name, answer)) => {
                    self.hand_over(&name, &answer, watch);
                    if self.devices.is_empty() {
                        return;
                    }
                }
                Ok(Wake::Attached(..) | Wake::Detached(_)) => {}
            }
        }
    }

    /// Returns the CPU of each thread that serves queues.
    fn taken_cpus(&self) -> Vec<usize> {
        let own = self.devices.iter().flat_map(|device| &device.cpus);
        own.copied().chain(self.crew.pool_cpus()).collect()
    }

    /// Keeps threads that serve no queue off the CPUs of those that do, and of workers to `come`.
    fn keep_house(&self, come: &[usize]) {
        let api = self.api.as_ref().map(ApiServer::thread_id);
        housekeeping::keep_off(&[&self.taken_cpus(), come].concat(), api);
    }

    fn offer_api(&self) -> Result<ApiServer, ApiError> {
        let served = self.devices.iter().map(|device| Served {
            name: device.name.clone(),
            asker: device.control.asker(),
        });
        let socket = format!("{}{SOCKET_SUFFIX}", std::process::id());
        let requests = Requests(self.sender.clone());
        let path = self.folder.join(socket);
        let api = ApiServer::start(&path, served.collect(), requests, &self.api_options)?;
        if let Some(address) = api.address() {
            tracing::info!("the control API listens on {address}");
        }
        Ok(api)
    }

    /// Detaches and unmakes every device. A second signal gives up waiting.
    fn stop(mut self, watch: &mut impl FnMut(&Event)) -> Result<(), DaemonError> {
        let mut left_behind = Vec::new();
        for device in std::mem::take(&mut self.devices).into_iter().rev() {
            left_behind.extend(self.unmake(device, watch));
        }
        match left_behind.is_empty() {
            true => Ok(()),
            false => Err(DaemonError::Unclean(left_behind.join("; "))),
        }
    }

    /// Detaches and unmakes one. Returns what stays behind.
    fn unmake(&mut self, device: Device, watch: &mut impl FnMut(&Event)) -> Vec<String> {
        let mut left_behind = Vec::new();
        let Device { name, control, .. } = &device;
        if vdpa::status(name) != vdpa::Status::Detached {
            control.asker().set_leaving(true);
            left_behind.extend(self.detach(name, watch).err());
        }
        let (name, claim) = (device.name, device.claim);
        if device.control.end() {
            watch(&Event::Stopped {
                name: name.to_string(),
            });
        } else {
            left_behind.push(format!("device {name} could not be taken down cleanly"));
        }
        drop(claim);
        left_behind
    }
}

/// How other threads ask the daemon.
#[derive(Clone)]
pub(crate) struct Requests(Sender<Wake>);

impl Requests {
    /// Has it let go of the device `name`, or say why it does not.
    pub(crate) fn hand_over(&self, name: Name) -> Result<HandedOver, String> {
        self.ask(|answer| Wake::HandOver(name, answer))
    }

    /// Has it read anew what to serve, or say why it does not.
    pub(crate) fn reload(&self) -> Result<Reloaded, String> {
        self.ask(|answer| Wake::Change(Change::Reload(Some(answer))))
    }

    /// Has it serve one device more, or say why it does not.
    pub(crate) fn add(&self, wanted: Wanted) -> Result<(), String> {
        self.ask(|answer| Wake::Change(Change::Add(Box::new(wanted), answer)))
    }

    /// Has it serve one device less, or say what stays behind.
    pub(crate) fn remove(&self, name: Name) -> Result<(), String> {
        self.ask(|answer| Wake::Change(Change::Remove(name, answer)))
    }

    fn ask<T>(&self, wake: impl FnOnce(Answer<T>) -> Wake) -> Result<T, String> {
        let ended = || "the daemon is about to end".to_owned();
        let (answer, answered) = channel();
        self.0.send(wake(answer)).map_err(|_| ended())?;
        answered.recv().map_err(|_| ended())?
    }
}
