//! The servers under test: each serves a null disk, or storage that is named, through VDUSE or ublk.

mod error;
mod pollux;
mod qemu;
mod raw;
mod rublk;
mod variant;

use std::fmt;
use std::ops::Add;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::interrupt::Interrupt;
use crate::process::{LOOK_AGAIN, Process};
use crate::tool::{self, QEMU, RUBLK};
use crate::transport::Transport;
use crate::vdpa;
pub use error::ServerError;
use pollux::Pollux;
use qemu::Qemu;
use raw::Raw;
use rublk::Rublk;
pub use variant::{Variant, Variants};

/// Long enough for a kernel that waits once for an unanswered message (30 s) and a slow VM.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A server that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// `pollux serve`, polling, with its null backend unless another is named.
    Pollux,
    /// qemu-storage-daemon's vduse-blk export, of null-co unless other storage is named.
    Qemu,
    /// rublk's null target, through ublk instead of VDUSE.
    Rublk,
    /// No server: a node of this host, loaded straight.
    Raw,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pollux => "pollux",
            Self::Qemu => "qemu",
            Self::Rublk => "rublk",
            Self::Raw => "raw",
        })
    }
}

impl FromStr for ServerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pollux" => Ok(Self::Pollux),
            "qemu" => Ok(Self::Qemu),
            "rublk" => Ok(Self::Rublk),
            "raw" => Ok(Self::Raw),
            _ => Err(format!(
                "{text}: unknown server; use pollux, qemu, rublk or raw"
            )),
        }
    }
}

/// What every server is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `pollux` program.
    pub pollux: PathBuf,
    /// How it is going to be loaded.
    pub transport: Transport,
    /// CPUs that the server may use.
    pub cpus: Vec<usize>,
    /// CPUs of the load generator.
    pub load_cpus: Vec<usize>,
    /// Size of the disk. A number, as QEMU's null-co takes no suffix.
    pub size_bytes: u64,
    /// Entries of a virtqueue.
    pub queue_size: u16,
    /// Poll mode of pollux; none for what suits the transport.
    pub poll: Option<String>,
    /// Folder for sockets.
    pub sockets: PathBuf,
    /// Options of pollux, instead of those that it would have of these names.
    pub options: Vec<(&'static str, String)>,
}

impl Setup {
    /// Where the server `name` listens; none where it is reached through VDUSE.
    fn socket(&self, name: &str) -> Option<PathBuf> {
        (self.transport == Transport::VhostUser).then(|| self.sockets.join(name))
    }

    /// Virtqueues of servers without a poll queue. The driver in this process has one thread, so one queue.
    fn queues(&self) -> usize {
        match self.transport {
            Transport::VduseVirtio | Transport::VduseVirtioPoll => self.cpus.len(),
            Transport::VduseVhost | Transport::VhostUser => 1,
        }
    }
}

/// Counters of a server that keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests served.
    pub requests: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Kicks received.
    #[serde(default)]
    pub kicks: u64,
}

impl Counters {
    /// What was counted since `before`; none where a counter went back.
    pub fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            requests: self.requests.checked_sub(before.requests)?,
            interrupts: self.interrupts.checked_sub(before.interrupts)?,
            kicks: self.kicks.checked_sub(before.kicks)?,
        })
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            interrupts: self.interrupts + other.interrupts,
            kicks: self.kicks + other.kicks,
        }
    }
}

/// A server whose disk is there. Dropping it detaches the disk and stops it.
#[derive(Debug)]
pub struct Server(Running);

#[derive(Debug)]
enum Running {
    Pollux(Pollux),
    Qemu(Qemu),
    Rublk(Rublk),
    Raw(Raw),
}

impl Server {
    /// Starts a server and waits until its disk can be used.
    ///
    /// # Errors
    /// A program is missing or fails, the host has no VDUSE, no disk comes, or `interrupt` is
    /// requested; nothing is left running.
    pub fn start(
        variant: &Variant,
        setup: &Setup,
        interrupt: &Interrupt,
    ) -> Result<Self, ServerError> {
        Ok(Self(match variant.kind() {
            ServerKind::Pollux => Running::Pollux(Pollux::start(variant, setup, interrupt)?),
            ServerKind::Qemu => Running::Qemu(Qemu::start(variant, setup, interrupt)?),
            ServerKind::Rublk => Running::Rublk(Rublk::start(setup, interrupt)?),
            ServerKind::Raw => Running::Raw(Raw::find(variant)?),
        }))
    }

    /// What to load: a block device such as `/dev/vda`, or `/dev/vhost-vdpa-N`.
    pub fn node(&self) -> &Path {
        match &self.0 {
            Running::Pollux(pollux) => pollux.node(),
            Running::Qemu(qemu) => qemu.node(),
            Running::Rublk(rublk) => rublk.node(),
            Running::Raw(raw) => raw.node(),
        }
    }

    /// Its process; none for [`ServerKind::Raw`].
    pub fn pid(&self) -> Option<Pid> {
        match &self.0 {
            Running::Pollux(pollux) => Some(pollux.pid()),
            Running::Qemu(qemu) => Some(qemu.pid()),
            Running::Rublk(rublk) => Some(rublk.pid()),
            Running::Raw(_) => None,
        }
    }

    /// Its own counters, one a virtqueue, those that `C` has; `None` where it keeps none.
    ///
    /// # Errors
    /// The server does not answer, or not as expected.
    pub fn counters<C: DeserializeOwned>(&self) -> Result<Option<Vec<C>>, ServerError> {
        match &self.0 {
            Running::Pollux(pollux) => pollux.counters().map(Some),
            Running::Qemu(_) | Running::Rublk(_) | Running::Raw(_) => Ok(None),
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
            Running::Rublk(rublk) => rublk.stop(),
            Running::Raw(_) => Ok(()),
        }
    }
}

/// Succeeds where all of `servers` can be started, so that an error comes before the first round.
///
/// # Errors
/// What the first of them lacks.
pub fn check(servers: &[Variant], transport: Transport) -> Result<(), ServerError> {
    let has = |kind| servers.iter().any(|server| server.kind() == kind);
    let is_reachable = |kind| transport.servers().contains(&kind);
    if let Some(server) = servers.iter().find(|it| !is_reachable(it.kind())) {
        let server = server.kind();
        return Err(ServerError::Unreachable { server, transport });
    }
    let driver = transport.vdpa_driver();
    if let Some(driver) = driver
        && (has(ServerKind::Pollux) || has(ServerKind::Qemu))
    {
        vdpa::check_host(driver)?;
    }
    if has(ServerKind::Qemu) {
        QEMU.find()?;
        if driver.is_some() {
            tool::VDPA.find()?;
        }
    }
    if has(ServerKind::Rublk) {
        rublk::check()?;
    }
    Ok(())
}

/// The servers that `transport` reaches, without those peers that are not installed.
pub fn installed(transport: Transport) -> Vec<Variant> {
    let is_installed = |kind: &ServerKind| match kind {
        ServerKind::Pollux => true,
        // Without VDUSE pollux is worth a look alone; with it, who lacks the peer is told how to get it.
        ServerKind::Qemu => transport != Transport::VhostUser || QEMU.find().is_ok(),
        ServerKind::Rublk => RUBLK.find().is_ok(),
        // Nobody said which node.
        ServerKind::Raw => false,
    };
    let found = transport.servers().iter().copied().filter(is_installed);
    found.map(Variant::from).collect()
}

/// The version line of rublk, where it is installed.
pub fn rublk_version() -> Option<String> {
    tool::version(&RUBLK.find().ok()?)
}

/// The version line of qemu-storage-daemon, where it is installed.
pub fn qemu_version() -> Option<String> {
    tool::version(&QEMU.find().ok()?)
}

/// Waits until `ready` gives something, the server ends, [`READY_LIMIT`] passes or the user stops.
fn wait_until<T>(
    server: ServerKind,
    what: &str,
    process: &mut Process,
    command: &str,
    interrupt: &Interrupt,
    ready: impl FnMut() -> Option<T>,
) -> Result<T, ServerError> {
    wait_within(
        READY_LIMIT,
        server,
        what,
        process,
        command,
        interrupt,
        ready,
    )
}

/// The same, but waits no longer than `limit`.
fn wait_within<T>(
    limit: Duration,
    server: ServerKind,
    what: &str,
    process: &mut Process,
    command: &str,
    interrupt: &Interrupt,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, ServerError> {
    let end = Instant::now() + limit;
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
            let seconds = limit.as_secs();
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
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Writes a program made of `script`, and returns its path.
    pub(super) fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What the pretenders in `folder` are started with.
    pub(super) fn setup(folder: &Path) -> Setup {
        Setup {
            pollux: folder.join("pollux"),
            transport: Transport::VduseVirtio,
            cpus: vec![0],
            load_cpus: vec![0],
            size_bytes: 1 << 30,
            queue_size: 256,
            poll: None,
            sockets: folder.to_owned(),
            options: Vec::new(),
        }
    }

    #[test]
    fn servers_are_named_as_they_are_written() {
        for kind in [
            ServerKind::Pollux,
            ServerKind::Qemu,
            ServerKind::Rublk,
            ServerKind::Raw,
        ] {
            assert_eq!(kind.to_string().parse::<ServerKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.to_string());
        }
        let error = "spdk".parse::<ServerKind>().unwrap_err();
        assert!(error.contains("pollux, qemu, rublk or raw"), "{error}");
    }

    #[test]
    fn a_server_out_of_reach_is_refused_before_anything_is_looked_for() {
        let servers = [Variant::from(ServerKind::Rublk)];
        let error = check(&servers, Transport::VduseVhost).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("rublk: not reachable through vduse-vhost"),
            "{text}"
        );
    }

    #[test]
    fn counters_are_taken_apart() {
        let counters = |requests, interrupts, kicks| Counters {
            requests,
            interrupts,
            kicks,
        };
        let since = counters(9, 5, 1).since(counters(4, 5, 0));
        assert_eq!(since, Some(counters(5, 0, 1)));
        assert_eq!(counters(9, 5, 1).since(counters(4, 6, 0)), None);
        assert_eq!(counters(1, 2, 3) + counters(4, 5, 6), counters(5, 7, 9));
    }
}
