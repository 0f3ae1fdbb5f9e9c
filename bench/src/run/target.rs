//! Where the requests of a run go: a worker of this process, or a daemon of the run's own.

use std::path::Path;

use pollux_dataplane::ring::RingFeatures;
use tempfile::TempDir;

use super::{RunError, WorkerCounters};
use crate::cpus::Pair;
use crate::interrupt::Interrupt;
use crate::loopback::{Client, Disk, Loopback};
use crate::scenario::Scenario;
use crate::server::{Server, ServerKind, Setup};
use crate::thread_usage::Thread;
use crate::transport::Transport;
use crate::vhost::frontend::{self, Capacity, Connection, FrontendError};

/// What serves a scenario's disk.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A worker of this process, over this disk.
    Disk(&'a (dyn Disk + Sync)),
    /// `pollux serve` of this program, with the backend of the scenario.
    Program(&'a Path),
}

/// What serves it, once it runs.
pub(super) enum Target<'a> {
    Disk(&'a (dyn Disk + Sync)),
    Daemon(Daemon),
}

/// A daemon whose socket is there.
pub(super) struct Daemon {
    server: Server,
    capacity: Capacity,
    _folder: TempDir,
}

/// A client's queue that is served.
pub(super) enum Service<'a> {
    Here(Loopback),
    Daemon {
        server: &'a Server,
        _connection: Connection,
    },
}

impl<'a> Target<'a> {
    /// Starts what `source` takes for `scenario`.
    pub(super) fn open(
        source: Source<'a>,
        scenario: &Scenario,
        cpus: &Pair,
        interrupt: &Interrupt,
    ) -> Result<Self, RunError> {
        match source {
            Source::Disk(disk) => Ok(Self::Disk(disk)),
            Source::Program(pollux) => {
                Daemon::start(pollux, scenario, cpus, interrupt).map(Self::Daemon)
            }
        }
    }

    pub(super) fn capacity(&self) -> Capacity {
        match self {
            Self::Disk(disk) => {
                let geometry = disk.geometry();
                Capacity {
                    disk_bytes: geometry.capacity_sectors * 512,
                    block_bytes: geometry.block_bytes,
                    read_only: geometry.read_only,
                }
            }
            Self::Daemon(daemon) => daemon.capacity,
        }
    }

    /// Has the queue of `client` served, by a worker on `cpu`.
    pub(super) fn serve(&self, client: &mut Client, cpu: usize) -> Result<Service<'_>, RunError> {
        match self {
            Self::Disk(disk) => Ok(Service::Here(Loopback::start(*disk, cpu, client)?)),
            Self::Daemon(Daemon { server, .. }) => {
                let _connection = Connection::start(server.node(), client)?;
                Ok(Service::Daemon {
                    server,
                    _connection,
                })
            }
        }
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<(), RunError> {
        match self {
            Self::Disk(_) => Ok(()),
            Self::Daemon(daemon) => Ok(daemon.server.stop()?),
        }
    }
}

impl Daemon {
    fn start(
        pollux: &Path,
        scenario: &Scenario,
        cpus: &Pair,
        interrupt: &Interrupt,
    ) -> Result<Self, RunError> {
        let folder = tempfile::tempdir().map_err(FrontendError::Io)?;
        let setup = Setup {
            pollux: pollux.to_owned(),
            transport: Transport::VhostUser,
            cpus: vec![cpus.worker],
            load_cpus: vec![cpus.client],
            size_bytes: 0,
            queue_size: scenario.ring.size,
            poll: None,
            sockets: folder.path().to_owned(),
            options: vec![
                ("backend", scenario.backend.clone()),
                ("features", features(scenario.ring.features())),
            ],
        };
        let server = Server::start(&ServerKind::Pollux.into(), &setup, interrupt)?;
        let capacity = frontend::capacity(server.node())?;
        Ok(Self {
            server,
            capacity,
            _folder: folder,
        })
    }
}

/// Returns `features` as `pollux serve --features` has them.
fn features(features: RingFeatures) -> String {
    let named = [
        (RingFeatures::INDIRECT_DESC, "indirect_desc"),
        (RingFeatures::EVENT_IDX, "event_idx"),
        (RingFeatures::RING_PACKED, "ring_packed"),
        (RingFeatures::IN_ORDER, "in_order"),
    ];
    let on = named.into_iter().filter(|(it, _)| features.contains(*it));
    let names: Vec<&str> = on.map(|(_, name)| name).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(","),
    }
}

impl Service<'_> {
    /// Returns what the worker has counted. A daemon is asked by another process, which takes a while.
    pub(super) fn counters(&self) -> Result<WorkerCounters, RunError> {
        match self {
            Self::Here(loopback) => Ok(loopback.counters().into()),
            Self::Daemon { server, .. } => {
                let queues = server.counters()?.unwrap_or_default();
                queues.into_iter().next().ok_or(RunError::NoCounters)
            }
        }
    }

    /// Returns the worker's thread.
    pub(super) fn worker(&self) -> Option<Thread> {
        match self {
            Self::Here(_) => Thread::of_worker("self"),
            Self::Daemon { server, .. } => Thread::of_worker(&server.pid()?.to_string()),
        }
    }

    /// Returns what the client did wrong in the worker's eyes: nothing, or this program has a bug.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Self::Here(loopback) => loopback.fault(),
            // It is an error of its counters.
            Self::Daemon { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_named_as_the_daemon_has_them() {
        assert_eq!(features(RingFeatures::empty()), "none");
        let packed = RingFeatures::RING_PACKED | RingFeatures::INDIRECT_DESC;
        assert_eq!(features(packed), "indirect_desc,ring_packed");
    }
}
