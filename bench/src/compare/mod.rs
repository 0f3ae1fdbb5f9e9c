//! Compares servers on the same load, in interleaved rounds, so that a machine whose speed drifts
//! treats them alike.

mod plan;
mod progress;
mod result;
mod table;

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cpus::{CpuError, Placement};
use crate::environment::Environment;
use crate::fio::{self, FioError, LoadResult, Workload};
use crate::interrupt::{Interrupt, InterruptError};
use crate::ioctl_count::IoctlCount;
use crate::server::{self, Server, ServerError, ServerKind, Setup};
use crate::tool::FIO;
pub use plan::Plan;
use progress::Progress;
pub use result::{Comparison, Ending, InterruptsCounted, Point, Ratio, Row, Settings};

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
    /// The user asked to stop.
    #[error("compare: stopped before the first round was finished; nothing to show")]
    Stopped,
}

/// Measures every server of `plan` in each round and returns all values. Progress goes to standard
/// error. Ctrl-C, and a server or fio that fails in a later round, end it early with the rounds
/// finished so far.
///
/// # Errors
/// No round was finished: the plan, the host or a server does not allow it, or the user stopped.
pub fn run(plan: &Plan) -> Result<Comparison, CompareError> {
    plan.check()?;
    let cpus = Placement::choose(&plan.server_cpus, &plan.fio_cpus)?;
    server::check(&plan.servers)?;
    FIO.find().map_err(FioError::Missing)?;
    let _lock = lock().map_err(CompareError::Busy)?;
    let interrupt = Interrupt::install()?;
    let started_unix_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut bench = Bench::new(plan, &cpus, &interrupt);
    let (points, mut ending) = bench.rounds()?;
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
        Environment::look(),
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
    fn new(plan: &'a Plan, cpus: &'a Placement, interrupt: &'a Interrupt) -> Self {
        let setup = Setup {
            pollux: plan.pollux.clone(),
            cpus: cpus.server.clone(),
            size_bytes: plan.size_bytes,
            poll: plan.poll.clone(),
        };
        let fio_cpus = &cpus.fio;
        Self {
            plan,
            setup,
            fio_cpus,
            interrupt,
            progress: Progress::new(plan),
        }
    }

    /// The points of all rounds that were finished.
    fn rounds(&mut self) -> Result<(Vec<Point>, Ending), CompareError> {
        let mut points = Vec::new();
        for round in 1..=self.plan.rounds {
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
        for &server in &self.plan.servers {
            let running = Server::start(server, &self.setup, self.interrupt)?;
            for &iodepth in &self.plan.iodepths {
                self.progress.begins(round, server, iodepth);
                let before = running.counters()?;
                let load = self.load(&running, iodepth, self.plan.runtime)?;
                let interrupts_per_request =
                    before.zip(running.counters()?).and_then(|(before, after)| {
                        let interrupts = after.interrupts.checked_sub(before.interrupts)?;
                        ratio(interrupts, after.requests.checked_sub(before.requests)?)
                    });
                self.progress.ends(load.iops);
                points.push(Point {
                    round,
                    server,
                    iodepth,
                    load,
                    interrupts_per_request,
                });
            }
            running.stop()?;
        }
        Ok(points)
    }

    fn load(&self, on: &Server, iodepth: u32, time: Duration) -> Result<LoadResult, FioError> {
        let workload = Workload {
            rw: self.plan.rw,
            bs: self.plan.bs.clone(),
            iodepth,
            runtime: time,
            ramp_time: self.plan.ramp_time,
            hipri: false,
            cpus_allowed: self.fio_cpus.to_vec(),
        };
        fio::run(on.node(), &workload, Some(self.interrupt))
    }

    /// Counts the interrupts of servers that keep no such counter, under an untimed load: tracing
    /// their ioctls would slow a timed one.
    fn count_interrupts(&mut self) -> Vec<InterruptsCounted> {
        let mut counted = Vec::new();
        for &server in self
            .plan
            .servers
            .iter()
            .filter(|&&server| server == ServerKind::Qemu)
        {
            counted.extend(self.count_for(server));
        }
        counted
    }

    fn count_for(&mut self, server: ServerKind) -> Vec<InterruptsCounted> {
        let none = |iodepth, reason: String| InterruptsCounted {
            server,
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
            self.progress.counts(server, iodepth);
            counted.push(match self.count_one(&running, iodepth) {
                Ok(interrupts_per_request) => InterruptsCounted {
                    server,
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
        let trace = IoctlCount::start(running.pid()).map_err(|e| e.to_string())?;
        let workload = Workload {
            rw: self.plan.rw,
            bs: self.plan.bs.clone(),
            iodepth,
            runtime: progress::COUNT_TIME,
            ramp_time: Duration::ZERO,
            hipri: false,
            cpus_allowed: self.fio_cpus.to_vec(),
        };
        let load = fio::run(running.node(), &workload, Some(self.interrupt));
        let interrupts = trace.interrupts().map_err(|e| e.to_string())?;
        let load = load.map_err(|e| e.to_string())?;
        Ok(ratio(interrupts, load.requests))
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_comparison_at_a_time() {
        let first = lock().unwrap();
        assert_eq!(lock().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        lock().unwrap();
    }
}
