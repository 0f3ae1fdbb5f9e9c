//! The servers under test: each serves a null disk through VDUSE and is attached to virtio-vdpa.

mod pollux;
mod qemu;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::interrupt::Interrupt;
use crate::process::{LOOK_AGAIN, Process, ProcessError};
use crate::tool::{self, QEMU, ToolError};
use crate::vdpa::{self, VdpaError};
use pollux::Pollux;
use qemu::Qemu;

/// Long enough for a kernel that waits once for an unanswered message (30 s) and a slow VM.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Why a server under test does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A program is not installed.
    #[error(transparent)]
    Missing(#[from] ToolError),
    /// A program could not be run or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// vDPA refused.
    #[error(transparent)]
    Vdpa(#[from] VdpaError),
    /// The server ended before its disk was there.
    #[error(
        "{server}: ended with {status} before its disk was there: {last_words}; start it by hand: {command}"
    )]
    Ended {
        /// Which server.
        server: ServerKind,
        /// Its exit status.
        status: String,
        /// What it said.
        last_words: String,
        /// How it was started.
        command: String,
    },
    /// It runs but gives no disk.
    #[error("{server}: no {what} after {seconds} s; look at `dmesg` and /sys/bus/vdpa/devices")]
    NotReady {
        /// Which server.
        server: ServerKind,
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },
    /// Its counters could not be read.
    #[error("pollux stats {name}: {reason}; run it by hand beside `pollux serve`")]
    Stats {
        /// The device.
        name: String,
        /// What was wrong.
        reason: String,
    },
    /// The user asked to stop.
    #[error("{0}: stopped on request")]
    Interrupted(ServerKind),
}

/// A server that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// `pollux serve` with its null backend, polling.
    Pollux,
    /// qemu-storage-daemon's vduse-blk export of null-co.
    Qemu,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pollux => "pollux",
            Self::Qemu => "qemu",
        })
    }
}

impl FromStr for ServerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pollux" => Ok(Self::Pollux),
            "qemu" => Ok(Self::Qemu),
            _ => Err(format!("{text}: unknown server; use pollux or qemu")),
        }
    }
}

/// What every server is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `pollux` program.
    pub pollux: PathBuf,
    /// CPUs that the server may use.
    pub cpus: Vec<usize>,
    /// Size of the disk. A number, as QEMU's null-co takes no suffix.
    pub size_bytes: u64,
    /// Poll mode of pollux.
    pub poll: String,
}

/// Counters of a server that keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests served.
    pub requests: u64,
    /// Interrupts raised.
    pub interrupts: u64,
}

/// A server whose disk is there. Dropping it detaches the disk and stops it.
#[derive(Debug)]
pub struct Server(Running);

#[derive(Debug)]
enum Running {
    Pollux(Pollux),
    Qemu(Qemu),
}

impl Server {
    /// Starts a server and waits until its disk can be used.
    ///
    /// # Errors
    /// A program is missing or fails, the host has no VDUSE, no disk comes, or `interrupt` is
    /// requested; nothing is left running.
    pub fn start(
        kind: ServerKind,
        setup: &Setup,
        interrupt: &Interrupt,
    ) -> Result<Self, ServerError> {
        Ok(Self(match kind {
            ServerKind::Pollux => Running::Pollux(Pollux::start(setup, interrupt)?),
            ServerKind::Qemu => Running::Qemu(Qemu::start(setup, interrupt)?),
        }))
    }

    /// Its block device, for example `/dev/vda`.
    pub fn node(&self) -> &Path {
        match &self.0 {
            Running::Pollux(pollux) => pollux.node(),
            Running::Qemu(qemu) => qemu.node(),
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        match &self.0 {
            Running::Pollux(pollux) => pollux.pid(),
            Running::Qemu(qemu) => qemu.pid(),
        }
    }

    /// Its own counters; `None` where it keeps none.
    ///
    /// # Errors
    /// The server does not answer, or not as expected.
    pub fn counters(&self) -> Result<Option<Counters>, ServerError> {
        match &self.0 {
            Running::Pollux(pollux) => pollux.counters().map(Some),
            Running::Qemu(_) => Ok(None),
        }
    }

    /// Detaches the disk and stops the server.
    ///
    /// # Errors
    /// Something had to be forced or is left behind.
    pub fn stop(self) -> Result<(), ServerError> {
        match self.0 {
            Running::Pollux(pollux) => pollux.stop(),
            Running::Qemu(qemu) => qemu.stop(),
        }
    }
}

/// Succeeds where all of `kinds` can be started, so that an error comes before the first round.
///
/// # Errors
/// What the first of them lacks.
pub fn check(kinds: &[ServerKind]) -> Result<(), ServerError> {
    vdpa::check_host()?;
    if kinds.contains(&ServerKind::Qemu) {
        QEMU.find()?;
        tool::VDPA.find()?;
    }
    Ok(())
}

/// The version line of qemu-storage-daemon, where it is installed.
pub fn qemu_version() -> Option<String> {
    tool::version(&QEMU.find().ok()?)
}

/// Waits until `ready` gives something, the server ends, the limit passes or the user stops.
fn wait_until<T>(
    server: ServerKind,
    what: &str,
    process: &mut Process,
    command: &str,
    interrupt: &Interrupt,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, ServerError> {
    let end = Instant::now() + READY_LIMIT;
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if let Some(status) = process.ended()? {
            let (status, last_words) = (status.to_string(), process.last_words());
            return Err(ServerError::Ended {
                server,
                status,
                last_words,
                command: command.into(),
            });
        }
        if interrupt.requested() {
            return Err(ServerError::Interrupted(server));
        }
        if Instant::now() >= end {
            let seconds = READY_LIMIT.as_secs();
            return Err(ServerError::NotReady {
                server,
                what: what.to_owned(),
                seconds,
            });
        }
        interrupt.sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_they_are_written() {
        for kind in [ServerKind::Pollux, ServerKind::Qemu] {
            assert_eq!(kind.to_string().parse::<ServerKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
        assert!(
            "spdk"
                .parse::<ServerKind>()
                .unwrap_err()
                .contains("pollux or qemu")
        );
    }
}
