//! From the first device to the last: make, attach, wait, detach, unmake.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;
use vduse::Name;

use super::claim::Claim;
use super::confinement::{confine, tell_why_killed};
use super::service::Service;
use super::urgency::Urgency;
use super::{ClaimError, SOCKET_SUFFIX, pressure, signals, sockets};
use crate::api::{ApiError, ApiServer, Client, ClientError, HandedOver, Served};
use crate::device::{ControlHandle, DeviceOptions, Prepared, ServeError};
use crate::sandbox::{Confined, Sandbox, UserError};
use crate::vdpa::{self, AttachError, Attached, DetachError, Driver};

mod leave;

/// How often someone who waits is told what for.
const REMINDER: Duration = Duration::from_secs(2);

/// What to serve.
#[derive(Clone, Debug)]
pub struct ServeRequest {
    /// The devices, and the driver to attach each to.
    pub devices: Vec<(DeviceOptions, Option<Driver>)>,
    /// Where sockets and locks go.
    pub runtime_dir: PathBuf,
    /// Take a device over from a daemon that serves it.
    pub takeover: bool,
    /// What the daemon gives up before.
    pub sandbox: Sandbox,
    /// Who it is to be; who it is already when left out.
    pub user: Option<String>,
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
    Attached(Name, Result<Attached, AttachError>),
    Detached(Result<(), DetachError>),
    HandOver(Name, Sender<Result<HandedOver, String>>),
}

/// Serves until SIGINT or SIGTERM, then detaches, drains and destroys every device, or until SIGUSR1, then leaves those
/// that it can to the next daemon. `watch` is called for each event.
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
        _ => Wake::Signal,
    };
    signals::forward(sender.clone(), wake).map_err(DaemonError::Signals)?;
    let service = Arc::new(Service::start().map_err(DaemonError::Signals)?);
    let mut daemon = Daemon {
        devices: Vec::new(),
        api: None,
        service: Arc::clone(&service),
        confined,
        sender,
        wakes,
    };
    let mut watch = |event: &Event| {
        service.note(event);
        watch(event);
    };
    let result = daemon.run(&request, &lacks, &mut watch);
    service.stops();
    let stopped = daemon.stop(&mut watch);
    result.and(stopped)
}

/// A device, and the right to its name, which is given back when the device is gone.
struct Device {
    name: Name,
    control: ControlHandle,
    claim: Claim,
}

struct Daemon {
    devices: Vec<Device>,
    api: Option<ApiServer>,
    service: Arc<Service>,
    confined: Confined,
    sender: Sender<Wake>,
    wakes: Receiver<Wake>,
}

impl Daemon {
    fn run(
        &mut self,
        request: &ServeRequest,
        lacks: &[String],
        watch: &mut impl FnMut(&Event),
    ) -> Result<(), DaemonError> {
        let folder = &request.runtime_dir;
        let prepared = request
            .devices
            .iter()
            .map(|(options, _)| Prepared::new(options.clone(), folder, self.confined));
        let prepared: Vec<Prepared> = prepared.collect::<Result<_, _>>()?;
        sockets::remove_dead(folder);
        let mut events = Vec::new();
        for mut device in prepared {
            let name = device.name().clone();
            let (mut left, mut urgency) = (None, None);
            if request.takeover {
                // Before anything is asked of the daemon that serves it, if one does: it may be no device for this one.
                device.stand_by()?;
                urgency = Some(Urgency::begin());
                left = Client::new(folder).hand_over(name.as_str())?;
            }
            let claim = Claim::new(folder, &name)?;
            let control = device.spawn()?;
            drop(urgency);
            events.push(match control.is_taken_over() {
                true => Event::TakenOver {
                    name: name.to_string(),
                    from: left.map(|left| left.pid),
                    pause_us: left
                        .map(|left| control.served_at().after(left.since).as_micros() as u64),
                },
                false => Event::Serving {
                    name: name.to_string(),
                },
            });
            self.service.watch(name.clone(), control.asker());
            self.devices.push(Device {
                name,
                control,
                claim,
            });
        }
        self.api = Some(self.offer_api(folder)?);
        // Only now: who may not serve at all has enough to read.
        lacks.iter().for_each(|lack| tracing::warn!("{lack}"));
        tell_why_killed(&events);
        // Whoever waits for these may ask for anything at once.
        events.iter().for_each(&mut *watch);
        for (options, driver) in &request.devices {
            // A driver that gave up has no disk to lose.
            let keep = |_: &Attached| driver.is_none() || !vdpa::has_failed(&options.name);
            if let Some(Attached { driver, node }) = vdpa::bound(&options.name).filter(keep) {
                // As the daemon before left it.
                watch(&Event::Attached {
                    name: options.name.to_string(),
                    driver,
                    node,
                });
            } else if let Some(driver) = *driver {
                if vdpa::status(&options.name) != vdpa::Status::Detached {
                    // A daemon was killed before it bound a driver, or after it refused one; a bus device cannot be
                    // added twice.
                    self.detach(&options.name, watch)
                        .map_err(DaemonError::Unclean)?;
                }
                if !self.attach(&options.name, driver, watch)? {
                    return Ok(());
                }
            }
        }
        self.service.is_ready();
        while !self.devices.is_empty() {
            match self.wakes.recv() {
                Ok(Wake::Signal) | Err(_) => break,
                Ok(Wake::Leave) => {
                    self.leave(watch);
                    break;
                }
                Ok(Wake::HandOver(name, answer)) => {
                    self.hand_over(&name, &answer, watch);
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn offer_api(&self, folder: &Path) -> Result<ApiServer, ApiError> {
        let served = self.devices.iter().map(|device| Served {
            name: device.name.clone(),
            asker: device.control.asker(),
        });
        let sender = self.sender.clone();
        let hand_over = move |name| {
            let (answer, answered) = channel();
            let ended = || "the daemon is about to end".to_owned();
            let asked = sender.send(Wake::HandOver(name, answer));
            asked.map_err(|_| ended())?;
            answered.recv().map_err(|_| ended())?
        };
        let socket = format!("{}{SOCKET_SUFFIX}", std::process::id());
        ApiServer::start(&folder.join(socket), served.collect(), Arc::new(hand_over))
    }

    /// Lets go of the device `name` for another daemon, which is told at once: the driver waits for it.
    fn hand_over(
        &mut self,
        name: &Name,
        answer: &Sender<Result<HandedOver, String>>,
        watch: &mut impl FnMut(&Event),
    ) {
        // Until the answer is on its way.
        let _urgency = Urgency::begin();
        // Whoever asked may be gone; then the device is left like that of a killed daemon.
        match self.let_go(name) {
            Ok((control, handed_over)) => {
                let _ = answer.send(Ok(handed_over));
                control.wait();
                watch(&Event::HandedOver {
                    name: name.to_string(),
                });
            }
            Err(refused) => drop(answer.send(Err(refused))),
        }
    }

    /// Attaches a device through a thread of its own, since the kernel's probe waits for ours. Returns
    /// false when a signal came in between.
    fn attach(
        &mut self,
        name: &Name,
        driver: Driver,
        watch: &mut impl FnMut(&Event),
    ) -> Result<bool, DaemonError> {
        let served = self.devices.iter().find(|device| device.name == *name);
        let Some(asker) = served.map(|device| device.control.asker()) else {
            return Ok(true);
        };
        let (name, sender) = (name.clone(), self.sender.clone());
        let label = name.to_string();
        std::thread::spawn(move || {
            let attached = asker.attach(&name, driver);
            // The daemon waits for this, so it listens.
            let _ = sender.send(Wake::Attached(name, attached));
        });
        let mut interrupted = false;
        loop {
            match self.wakes.recv_timeout(REMINDER) {
                Ok(Wake::Attached(name, attached)) => {
                    let Attached { driver, node } = attached?;
                    watch(&Event::Attached {
                        name: name.to_string(),
                        driver,
                        node,
                    });
                    return Ok(!interrupted);
                }
                Ok(Wake::Signal) => {
                    interrupted = true;
                    // The probe may wait for requests that the backend never finishes.
                    let devices = self.devices.iter();
                    let probed = devices.filter(|device| device.name.as_str() == label);
                    probed.for_each(|device| device.control.asker().set_leaving(true));
                }
                Ok(Wake::HandOver(name, answer)) => refuse(&name, &answer),
                Ok(Wake::Detached(..) | Wake::Leave) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let reason = format!("the {driver} driver's probe");
                    watch(&Event::Waiting {
                        name: label.clone(),
                        reason,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    /// Detaches and unmakes every device. A second signal gives up waiting.
    fn stop(mut self, watch: &mut impl FnMut(&Event)) -> Result<(), DaemonError> {
        let mut left_behind = Vec::new();
        for device in std::mem::take(&mut self.devices).into_iter().rev() {
            let Device {
                name,
                control,
                claim: _claim,
            } = device;
            if vdpa::status(&name) != vdpa::Status::Detached {
                control.asker().set_leaving(true);
                if let Err(reason) = self.detach(&name, watch) {
                    left_behind.push(reason);
                }
            }
            if control.end() {
                watch(&Event::Stopped {
                    name: name.to_string(),
                });
            } else {
                left_behind.push(format!("device {name} could not be taken down cleanly"));
            }
        }
        match left_behind.is_empty() {
            true => Ok(()),
            false => Err(DaemonError::Unclean(left_behind.join("; "))),
        }
    }

    fn detach(&mut self, name: &Name, watch: &mut impl FnMut(&Event)) -> Result<(), String> {
        let (sender, device) = (self.sender.clone(), name.clone());
        std::thread::spawn(move || {
            let detached = vdpa::detach(&device);
            let _ = sender.send(Wake::Detached(detached));
        });
        let begun = Instant::now();
        loop {
            match self.wakes.recv_timeout(REMINDER) {
                Ok(Wake::Detached(Ok(()))) => {
                    watch(&Event::Detached {
                        name: name.to_string(),
                    });
                    return Ok(());
                }
                Ok(Wake::Detached(Err(error))) => return Err(error.to_string()),
                Ok(Wake::Signal) if begun.elapsed() > REMINDER => {
                    return Err(format!(
                        "device {name} stays attached: its driver did not let go"
                    ));
                }
                Ok(Wake::HandOver(name, answer)) => refuse(&name, &answer),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let reason = "the driver to let go: close what uses the device, or interrupt \
                                  again to leave it";
                    watch(&Event::Waiting {
                        name: name.to_string(),
                        reason: reason.into(),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Err("signals ended".into()),
            }
        }
    }
}

/// Answers who asks for a device at a bad time.
fn refuse(name: &Name, answer: &Sender<Result<HandedOver, String>>) {
    let busy = format!("device {name} is being attached or detached: try again");
    // Whoever asked may be gone.
    let _ = answer.send(Err(busy));
}
