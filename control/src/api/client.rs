//! The client's side: finds the daemon that serves a device, and asks it.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AttachBody, AttachedBody, DeviceBody, HandedOver, Level, LogLevel, ResizeBody, ResizedBody,
    Version,
};
use crate::daemon::{Reloaded, SOCKET_SUFFIX};
use crate::device::DeviceSnapshot;
use crate::vdpa::Driver;

mod exchange;

use exchange::{Asked, ask, ask_within};

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
    /// None that takes devices.
    #[error(
        "no daemon with its socket in {path} takes devices: start one with pollux serve --config FILE"
    )]
    NoTaker {
        /// The runtime directory.
        path: PathBuf,
    },
    /// More than one that does.
    #[error("several daemons take devices, processes {0}: choose one of them with --pid")]
    Takers(String),
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

/// How much a daemon logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonLevel {
    /// Its process.
    pub pid: u32,
    /// This, and what is more important.
    pub level: Level,
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
        let look = |socket| ask_within(socket, Asked::get("/v1/devices"), patience);
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
        ask(&socket, Asked::post(&path, &AttachBody { driver }))?
            .ok_or_else(|| ClientError::Unknown { name: name.into() })
    }

    /// Detaches the device `name`.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or the kernel refuses.
    pub fn detach(&self, name: &str) -> Result<(), ClientError> {
        self.tell(name, "detach")
    }

    /// Has the daemon that serves the device `name` do something with it.
    fn tell(&self, name: &str, verb: &str) -> Result<(), ClientError> {
        let (socket, _) = self.find(name)?;
        let path = format!("/v1/devices/{name}/{verb}");
        ask::<()>(&socket, Asked::post(&path, &()))?
            .ok_or_else(|| ClientError::Unknown { name: name.into() })
    }

    /// Has the daemon that serves the device `name` let go of it for this process. Returns `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when its daemon does not let go of it.
    pub fn hand_over(&self, name: &str) -> Result<Option<HandedOver>, ClientError> {
        match self.find(name) {
            Ok((socket, _)) => {
                let path = format!("/v1/devices/{name}/hand-over");
                ask(&socket, Asked::post(&path, &()))
            }
            Err(ClientError::Unknown { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the device `name` stand still, with nothing in flight.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or it cannot be paused now.
    pub fn pause(&self, name: &str) -> Result<(), ClientError> {
        self.tell(name, "pause")
    }

    /// Has the device `name` go on.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or the daemon does not answer.
    pub fn resume(&self, name: &str) -> Result<(), ClientError> {
        self.tell(name, "resume")
    }

    /// Makes the disk of the device `name` as large as `wanted` says.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or it cannot have that size.
    pub fn resize(&self, name: &str, wanted: ResizeBody) -> Result<ResizedBody, ClientError> {
        let (socket, _) = self.find(name)?;
        let path = format!("/v1/devices/{name}/resize");
        ask(&socket, Asked::post(&path, &wanted))?
            .ok_or_else(|| ClientError::Unknown { name: name.into() })
    }

    /// Has a daemon serve one device more: that of process `pid`, or the only one that takes devices.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when there is no such daemon or no single one, or it cannot serve the device.
    pub fn add(
        &self,
        device: &DeviceBody,
        pid: Option<u32>,
    ) -> Result<DeviceSnapshot, ClientError> {
        let nobody = || ClientError::NoTaker {
            path: self.runtime_dir.clone(),
        };
        let socket = self.taker(pid)?.ok_or_else(nobody)?;
        ask(&socket, Asked::post("/v1/devices", device))?.ok_or_else(nobody)
    }

    /// Returns the socket of the daemon that takes devices.
    fn taker(&self, pid: Option<u32>) -> Result<Option<PathBuf>, ClientError> {
        let mut takers = Vec::new();
        for socket in self.sockets()? {
            if pid.is_some() && process_of(&socket) != pid {
                continue;
            }
            let version: Option<Version> = ask(&socket, Asked::get("/v1/version"))?;
            if let Some(version) = version.filter(|it| it.takes_devices) {
                takers.push((version.pid.to_string(), socket));
            }
        }
        if takers.len() > 1 {
            let processes: Vec<String> = takers.into_iter().map(|it| it.0).collect();
            return Err(ClientError::Takers(processes.join(" and ")));
        }
        Ok(takers.pop().map(|(_, socket)| socket))
    }

    /// Has the daemon that serves the device `name` detach and destroy it.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when no daemon serves it or something of it stays behind.
    pub fn remove(&self, name: &str) -> Result<(), ClientError> {
        let (socket, _) = self.find(name)?;
        ask::<()>(&socket, Asked::delete(&format!("/v1/devices/{name}")))?
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
            match ask(&socket, Asked::post("/v1/reload", &())) {
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

    /// Has every daemon log as much as `level` says, if it says anything. Returns how much each logs then.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when a daemon does not answer, or none is there.
    pub fn log_level(&self, level: Option<Level>) -> Result<Vec<DaemonLevel>, ClientError> {
        let path = "/v1/log-level";
        let asked = |socket: &Path| match level {
            Some(level) => ask::<LogLevel>(socket, Asked::put(path, &LogLevel { level })),
            None => ask(socket, Asked::get(path)),
        };
        let sockets = self.sockets()?;
        // One that does not answer keeps no other from it.
        let answers: Vec<_> = sockets.iter().map(|socket| asked(socket)).collect();
        let mut all = Vec::new();
        for (socket, answer) in sockets.iter().zip(answers) {
            let known = process_of(socket).zip(answer?);
            all.extend(known.map(|(pid, LogLevel { level })| DaemonLevel { pid, level }));
        }
        match all.is_empty() {
            true => Err(ClientError::Nobody {
                path: self.runtime_dir.clone(),
            }),
            false => Ok(all),
        }
    }

    fn find(&self, name: &str) -> Result<(PathBuf, DeviceSnapshot), ClientError> {
        for socket in self.sockets()? {
            // Names have no character that a path would have to escape: VDUSE's rules are stricter.
            if let Some(device) = ask(&socket, Asked::get(&format!("/v1/devices/{name}")))? {
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
        Ok(paths
            .into_iter()
            .filter(|path| process_of(path).is_some())
            .collect())
    }
}

/// Returns the process of the daemon whose socket that is: its number and [`SOCKET_SUFFIX`]. Others are for frontends, perhaps.
fn process_of(path: &Path) -> Option<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(SOCKET_SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_daemons_sockets_are_asked() {
        assert_eq!(process_of(Path::new("/run/pollux/123.sock")), Some(123));
        for other in ["d0.sock", "123", "123.lock", ".sock"] {
            let path = Path::new("/run/pollux").join(other);
            assert_eq!(process_of(&path), None, "{other}");
        }
    }
}
