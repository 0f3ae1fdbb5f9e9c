//! From the first device to the last: make, attach, wait, detach, unmake.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde::Serialize;
use vduse::Name;

use super::claim::Claim;
use super::{ClaimError, SOCKET_SUFFIX, signals, sockets};
use crate::api::{ApiError, ApiServer, Served};
use crate::device::{ControlHandle, DeviceOptions, ServeError, spawn};
use crate::vdpa::{self, AttachError, Attached, DetachError, Driver};

/// How often someone who waits is told what for.
const REMINDER: Duration = Duration::from_secs(2);

/// What to serve.
#[derive(Clone, Debug)]
pub struct ServeRequest {
    /// The devices, and the driver to attach each to.
    pub devices: Vec<(DeviceOptions, Option<Driver>)>,
    /// Where sockets and locks go.
    pub runtime_dir: PathBuf,
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
    /// The device is served again, from where a daemon that was killed left it.
    TakenOver {
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
    Attached(Name, Result<Attached, AttachError>),
    Detached(Result<(), DetachError>),
}

/// Serves until SIGINT or SIGTERM, then detaches, drains and destroys every device. `watch` is called
/// for each event.
///
/// # Errors
///
/// [`DaemonError`] for the first thing that cannot be had, with everything made until then unmade, or
/// when something stays behind at the end.
pub fn serve(request: ServeRequest, mut watch: impl FnMut(&Event)) -> Result<(), DaemonError> {
    let (sender, wakes) = channel();
    signals::forward(sender.clone(), || Wake::Signal).map_err(DaemonError::Signals)?;
    let mut daemon = Daemon {
        claims: Vec::new(),
        devices: Vec::new(),
        api: None,
        sender,
        wakes,
    };
    let result = daemon.run(&request, &mut watch);
    let stopped = daemon.stop(&mut watch);
    result.and(stopped)
}

struct Daemon {
    // Dropped last to first: names are given back after the devices are gone.
    devices: Vec<(Name, ControlHandle)>,
    api: Option<ApiServer>,
    claims: Vec<Claim>,
    sender: Sender<Wake>,
    wakes: Receiver<Wake>,
}

impl Daemon {
    fn run(
        &mut self,
        request: &ServeRequest,
        watch: &mut impl FnMut(&Event),
    ) -> Result<(), DaemonError> {
        for (options, _) in &request.devices {
            self.claims
                .push(Claim::new(&request.runtime_dir, &options.name)?);
        }
        sockets::remove_dead(&request.runtime_dir);
        for (options, _) in &request.devices {
            let control = spawn(options.clone(), &request.runtime_dir)?;
            self.devices.push((options.name.clone(), control));
        }
        let socket = format!("{}{SOCKET_SUFFIX}", std::process::id());
        let served = self.devices.iter().map(|(name, control)| Served {
            name: name.clone(),
            viewer: control.viewer(),
        });
        self.api = Some(ApiServer::start(
            &request.runtime_dir.join(socket),
            served.collect(),
        )?);
        // Whoever waits for this may ask for anything at once.
        for (name, control) in &self.devices {
            let name = name.to_string();
            watch(&match control.is_taken_over() {
                true => Event::TakenOver { name },
                false => Event::Serving { name },
            });
        }
        for (options, driver) in &request.devices {
            if let Some(Attached { driver, node }) = vdpa::bound(&options.name) {
                // As the daemon before left it.
                watch(&Event::Attached {
                    name: options.name.to_string(),
                    driver,
                    node,
                });
            } else if let Some(driver) = *driver {
                if vdpa::status(&options.name) == vdpa::Status::Unbound {
                    // A daemon was killed before it bound a driver; a bus device cannot be added twice.
                    self.detach(&options.name, watch)
                        .map_err(DaemonError::Unclean)?;
                }
                if !self.attach(&options.name, driver, watch)? {
                    return Ok(());
                }
            }
        }
        while !matches!(self.wakes.recv(), Ok(Wake::Signal) | Err(_)) {}
        Ok(())
    }

    /// Attaches a device through a thread of its own, since the kernel's probe waits for ours. Returns
    /// false when a signal came in between.
    fn attach(
        &mut self,
        name: &Name,
        driver: Driver,
        watch: &mut impl FnMut(&Event),
    ) -> Result<bool, DaemonError> {
        let (name, sender) = (name.clone(), self.sender.clone());
        let label = name.to_string();
        std::thread::spawn(move || {
            let attached = vdpa::attach(&name, driver);
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
                Ok(Wake::Signal) => interrupted = true,
                Ok(Wake::Detached(..)) => {}
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
        for (name, control) in std::mem::take(&mut self.devices).into_iter().rev() {
            if vdpa::status(&name) != vdpa::Status::Detached
                && let Err(reason) = self.detach(&name, watch)
            {
                left_behind.push(reason);
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
