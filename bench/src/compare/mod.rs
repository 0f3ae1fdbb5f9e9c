//! Compares servers on the same load, in interleaved rounds, so that a machine whose speed drifts
//! treats them alike.

mod plan;
pub(crate) mod result;
mod resume;
mod table;

use std::io;
use std::ops::Add;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cpus::{CpuError, Placement};
use crate::environment::Environment;
use crate::fio::{self, Engine, FioError, Workload};
use crate::interrupt::{Interrupt, InterruptError};
use crate::ioctl_count::IoctlCount;
use crate::load::LoadResult;
use crate::poll_queues::{PollQueues, PollQueuesError};
use crate::progress::Progress;
use crate::server::{self, Counters, Server, ServerError, ServerKind, Setup, Variant};
use crate::tool::FIO;
use crate::transport::Transport;
use crate::vhost::{self, RandomReads, VhostError};
pub use plan::Plan;
pub use result::{Comparison, Ending, InterruptsCounted, Point, Ratio, Row, SCHEMA, Settings};
pub use resume::Earlier;

/// Why there is no comparison, not even of one round.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Plan(String),
    /// The CPUs.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// Another comparison runs: both would use the same names and CPUs.
    #[error("compare: another one runs on this host ({0}); wait for its end")]
    Busy(io::Error),
    /// Ctrl-C could not be caught.
    #[error(transparent)]
    Interrupt(#[from] InterruptError),
    /// A server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// fio.
    #[error(transparent)]
    Fio(#[from] FioError),
    /// The driver in this process.
    #[error(transparent)]
    Vhost(#[from] VhostError),
    /// No folder for the servers' sockets.
    #[error("a folder for sockets: {0}; look at TMPDIR")]
    Sockets(io::Error),
    /// Poll queues.
    #[error(transparent)]
    PollQueues(#[from] PollQueuesError),
    /// What was measured before does not go with what would be.
    #[error("cannot go on with that comparison: {0}")]
    Resume(String),
    /// The user asked to stop.
    #[error("compare: stopped before the first round was finished; nothing to show")]
    Stopped,
}

/// Measures every server of `plan` in each round and returns all values. Progress goes to standard
/// error. Ctrl-C, and a server or load that fails in a later round, end it early with the rounds
/// finished so far. The rounds of one that was run `earlier` are those that it begins with.
///
/// # Errors
/// No round was finished: the plan, the host or a server does not allow it, or the user stopped; or it is not the one that
/// was run earlier.
pub fn run(plan: &Plan, earlier: Option<Earlier>) -> Result<Comparison, CompareError> {
    plan.check()?;
    let cpus = Placement::choose(&plan.server_cpus, &plan.fio_cpus)?;
    server::check(&plan.servers, plan.transport)?;
    if !plan.transport.is_driven_here() {
        FIO.find().map_err(FioError::Missing)?;
    }
    let environment = Environment::look();
    if let Some(earlier) = &earlier {
        let checked = earlier.check(plan, &cpus, &environment);
        checked.map_err(CompareError::Resume)?;
    }
    let _lock = lock().map_err(CompareError::Busy)?;
    let interrupt = Interrupt::install()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let started_unix_s = match &earlier {
        Some(earlier) => earlier.started_unix_s,
        None => now.map_or(0, |since| since.as_secs()),
    };
    let polled = plan.transport == Transport::VduseVirtioPoll;
    let _poll_queues = polled.then(|| PollQueues::set(1)).transpose()?;
    let sockets = tempfile::tempdir().map_err(CompareError::Sockets)?;
    let rounds_done = earlier.as_ref().map_or(0, Earlier::rounds);
    let mut bench = Bench::new(plan, &cpus, sockets.path(), &interrupt, rounds_done);
    let points = earlier.map(|it| it.points).unwrap_or_default();
    let (points, mut ending) = bench.rounds(points, rounds_done)?;
    let mut counted = Vec::new();
    if ending == Ending::Complete {
        counted = bench.count_interrupts();
        if interrupt.requested() {
            ending = Ending::Stopped;
        }
    }
    drop(bench);
    let settings = plan.settings(&cpus);
    Ok(Comparison::new(
        started_unix_s,
        environment,
        settings,
        points,
        counted,
        ending,
    ))
}

/// An abstract socket address has one owner, and none once that has ended, however it ended.
fn lock() -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name("pollux-bench-compare")?)
}

/// One run of the plan.
struct Bench<'a> {
    plan: &'a Plan,
    setup: Setup,
    fio_cpus: &'a [usize],
    interrupt: &'a Interrupt,
    progress: Progress,
}

impl<'a> Bench<'a> {
    fn new(
        plan: &'a Plan,
        cpus: &'a Placement,
        sockets: &Path,
        interrupt: &'a Interrupt,
        rounds_done: u32,
    ) -> Self {
        let setup = Setup {
            pollux: plan.pollux.clone(),
            transport: plan.transport,
            cpus: cpus.server.clone(),
            load_cpus: cpus.fio.clone(),
            size_bytes: plan.size_bytes,
            queue_size: plan.queue_size(),
            poll: plan.poll.clone(),
            sockets: sockets.to_owned(),
            options: Vec::new(),
        };
        let fio_cpus = &cpus.fio;
        Self {
            plan,
            setup,
            fio_cpus,
            interrupt,
            progress: Progress::new(plan.course(rounds_done)),
        }
    }

    /// Returns `points`, which are those of `done` rounds, and those of all rounds that were finished after these.
    fn rounds(
        &mut self,
        mut points: Vec<Point>,
        done: u32,
    ) -> Result<(Vec<Point>, Ending), CompareError> {
        for round in done + 1..=self.plan.rounds {
            let failed = match self.round(round) {
                Ok(measured) => {
                    points.extend(measured);
                    continue;
                }
                Err(error) => error,
            };
            let stopped = self.interrupt.requested();
            return match (points.is_empty(), stopped) {
                (true, true) => Err(CompareError::Stopped),
                (true, false) => Err(failed),
                (false, true) => Ok((points, Ending::Stopped)),
                (false, false) => Ok((points, Ending::Failed(failed.to_string()))),
            };
        }
        Ok((points, Ending::Complete))
    }

    fn round(&mut self, round: u32) -> Result<Vec<Point>, CompareError> {
        let mut points = Vec::new();
        for server in &self.plan.servers {
            let running = Server::start(server, &self.setup, self.interrupt)?;
            for &iodepth in &self.plan.iodepths {
                self.progress
                    .begins(round, &self.plan.point_name(server, iodepth));
                let before = running.counters()?;
                let load = self.load(server, &running, iodepth)?;
                let counted = before
                    .zip(running.counters()?)
                    .and_then(|(before, after)| since(&before, &after));
                self.progress.ends(load.iops);
                points.push(Point {
                    round,
                    server: server.clone(),
                    iodepth,
                    load,
                    interrupts_per_request: counted.as_deref().and_then(interrupts_per_request),
                    poll_queue: self.poll_queue(counted),
                });
            }
            running.stop()?;
        }
        Ok(points)
    }

    /// The counters of the queue that fio polls: the last one.
    fn poll_queue(&self, counted: Option<Vec<Counters>>) -> Option<Counters> {
        let polled = self.plan.transport == Transport::VduseVirtioPoll;
        counted.filter(|_| polled)?.pop()
    }

    fn load(
        &self,
        server: &Variant,
        on: &Server,
        iodepth: u32,
    ) -> Result<LoadResult, CompareError> {
        let plan = self.plan;
        if plan.transport.is_driven_here() {
            let reads = RandomReads {
                block_bytes: plan.block_bytes()?,
                disk_bytes: plan.size_bytes,
                iodepth,
                runtime: plan.runtime,
                ramp_time: plan.ramp_time,
                cpu: self.fio_cpus.first().copied(),
            };
            let interrupt = Some(self.interrupt);
            return Ok(vhost::run(plan.transport, on.node(), &reads, interrupt)?);
        }
        let hipri = match server.kind() {
            ServerKind::Pollux => plan.transport == Transport::VduseVirtioPoll,
            _ => server.has("hipri"),
        };
        let engine = server.value("engine").and_then(|it| it.parse().ok());
        let workload = Workload {
            rw: plan.rw,
            bs: plan.bs.clone(),
            iodepth,
            runtime: plan.runtime,
            ramp_time: plan.ramp_time,
            engine: engine.unwrap_or_default(),
            hipri,
            cpus_allowed: self.fio_cpus.to_vec(),
        };
        Ok(fio::run(on.node(), &workload, Some(self.interrupt))?)
    }

    /// Counts the interrupts of servers that keep no such counter, under an untimed load: tracing
    /// their ioctls would slow a timed one.
    fn count_interrupts(&mut self) -> Vec<InterruptsCounted> {
        let plan = self.plan;
        plan.counted()
            .flat_map(|server| self.count_for(server))
            .collect()
    }

    fn count_for(&mut self, server: &Variant) -> Vec<InterruptsCounted> {
        let none = |iodepth, reason: String| InterruptsCounted {
            server: server.clone(),
            iodepth,
            interrupts_per_request: None,
            reason: Some(reason),
        };
        let depths = &self.plan.iodepths;
        let running = match Server::start(server, &self.setup, self.interrupt) {
            Ok(running) => running,
            Err(e) => {
                return depths
                    .iter()
                    .map(|&iodepth| none(iodepth, e.to_string()))
                    .collect();
            }
        };
        let mut counted = Vec::new();
        for &iodepth in depths {
            let name = server.name();
            let what = format!("counting interrupts of {name} QD {iodepth}");
            self.progress.untimed(&what);
            counted.push(match self.count_one(&running, iodepth) {
                Ok(interrupts_per_request) => InterruptsCounted {
                    server: server.clone(),
                    iodepth,
                    interrupts_per_request,
                    reason: None,
                },
                Err(reason) => none(iodepth, reason),
            });
        }
        if let Err(error) = running.stop() {
            eprintln!("{error}");
        }
        counted
    }

    /// The trace runs during the whole of fio, which tells the requests after its ramp time only:
    /// so here there is none.
    fn count_one(&self, running: &Server, iodepth: u32) -> Result<Option<f64>, String> {
        let pid = running.pid().ok_or("no process to trace")?;
        let trace = IoctlCount::start(pid).map_err(|e| e.to_string())?;
        let workload = Workload {
            rw: self.plan.rw,
            bs: self.plan.bs.clone(),
            iodepth,
            runtime: plan::COUNT_TIME,
            ramp_time: Duration::ZERO,
            engine: Engine::default(),
            hipri: false,
            cpus_allowed: self.fio_cpus.to_vec(),
        };
        let load = fio::run(running.node(), &workload, Some(self.interrupt));
        let interrupts = trace.interrupts().map_err(|e| e.to_string())?;
        let load = load.map_err(|e| e.to_string())?;
        Ok(ratio(interrupts, load.requests))
    }
}

/// What each queue counted since; none where a counter went back.
fn since(before: &[Counters], after: &[Counters]) -> Option<Vec<Counters>> {
    let pairs = after.iter().zip(before);
    pairs.map(|(after, before)| after.since(*before)).collect()
}

fn interrupts_per_request(queues: &[Counters]) -> Option<f64> {
    let sum = queues
        .iter()
        .copied()
        .fold(Counters::default(), Counters::add);
    ratio(sum.interrupts, sum.requests)
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_those_of_all_queues_over_the_point() {
        let counters = |requests, interrupts| Counters {
            requests,
            interrupts,
            kicks: 0,
        };
        let before = [counters(10, 10), counters(0, 0)];
        let after = [counters(16, 12), counters(2, 0)];
        let counted = since(&before, &after).unwrap();
        assert_eq!(counted, [counters(6, 2), counters(2, 0)]);
        assert_eq!(interrupts_per_request(&counted), Some(0.25));
        assert_eq!(since(&after, &before), None);
        assert_eq!(interrupts_per_request(&[]), None);
    }

    #[test]
    fn there_is_one_comparison_at_a_time() {
        let first = lock().unwrap();
        assert_eq!(lock().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        lock().unwrap();
    }
}
