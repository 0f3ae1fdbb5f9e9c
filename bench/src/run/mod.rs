//! One scenario, measured: rounds of interleaved points, each with the raw figures of the machine beside it.

mod measure;
mod preflight;
mod result;
mod resume;
mod summary;
mod table;
mod target;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quanta::Clock;

use crate::compare::Ending;
use crate::cpus::{CpuError, Pair};
use crate::environment::Environment;
use crate::interrupt::{Interrupt, InterruptError};
use crate::loopback::{LoopbackError, ping_pong};
use crate::progress::{Course, Progress};
use crate::scenario::{LoadKind, Scenario};
use crate::server::ServerError;
use crate::vhost::FrontendError;
use measure::Rig;
use preflight::CpuTimes;
pub use preflight::{Finding, Spoiler};
pub(crate) use result::SCHEMA_VERSION;
pub use result::{PingPong, Point, PointLoad, Run, WorkerCounters};
pub use summary::Row;
pub use target::Source;
use target::Target;

/// Why there is no result, not even of one round.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The CPUs.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// Ctrl-C could not be caught.
    #[error(transparent)]
    Interrupt(#[from] InterruptError),
    /// The worker or the client.
    #[error(transparent)]
    Loopback(#[from] LoopbackError),
    /// The daemon.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Its queue.
    #[error(transparent)]
    Frontend(#[from] FrontendError),
    /// What it has counted.
    #[error("the daemon has no queue; look at `pollux status`")]
    NoCounters,
    /// The disk does not suit the scenario.
    #[error("{0}")]
    Disk(String),
    /// The load.
    #[error("{name}: {reason}")]
    Load {
        /// The point.
        name: String,
        /// What happened.
        reason: String,
    },
    /// What was measured before does not go with what would be.
    #[error("cannot go on with that run: {0}")]
    Resume(String),
    /// The user asked to stop.
    #[error("bench: stopped before the first round was finished; nothing to show")]
    Stopped,
}

/// First guess of what a point takes beside its load.
const OVERHEAD: Duration = Duration::from_millis(30);

/// Measures `scenario` over what `source` serves. Progress and what spoils the figures go to standard error. Ctrl-C, and a load
/// that fails in a later round, end it early with the rounds finished so far.
///
/// # Errors
/// No round was finished.
pub fn run(scenario: &Scenario, source: Source<'_>) -> Result<Run, RunError> {
    go_on(scenario, source, None)
}

/// Measures the rounds that `earlier` lacks, and returns all of them.
///
/// # Errors
/// As [`run`], and [`RunError::Resume`] when `earlier` was another scenario, on another machine or with another
/// build, or has all rounds.
pub fn resume(scenario: &Scenario, source: Source<'_>, earlier: Run) -> Result<Run, RunError> {
    go_on(scenario, source, Some(earlier))
}

fn go_on(scenario: &Scenario, source: Source<'_>, earlier: Option<Run>) -> Result<Run, RunError> {
    let cpus = Pair::choose(scenario.cpus.client, scenario.cpus.worker)?;
    let environment = Environment::look();
    if let Some(earlier) = &earlier {
        resume::check(earlier, scenario, cpus, &environment)?;
    }
    let interrupt = Interrupt::install()?;
    let target = Target::open(source, scenario, &cpus, &interrupt)?;
    measure::check(scenario, target.capacity())?;
    let mut preflight = preflight::look(&cpus);
    for finding in &preflight {
        eprintln!("preflight: {}", finding.text);
    }
    let times = CpuTimes::read(&cpus);
    let started = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut started_unix_s = started.map_or(0, |since| since.as_secs());
    let (mut points, mut ping_pongs) = (Vec::new(), Vec::new());
    if let Some(earlier) = earlier {
        preflight::go_on(&mut preflight, earlier.preflight);
        started_unix_s = earlier.started_unix_s;
        (points, ping_pongs) = (earlier.points, earlier.ping_pong);
    }
    let mut bench = Bench::new(scenario, target, cpus, &interrupt, points, ping_pongs);
    let ending = bench.all()?;
    preflight.extend(CpuTimes::read(&cpus).since(&times).steal());
    let Bench {
        points,
        ping_pongs,
        rig,
        ..
    } = bench;
    rig.target.stop()?;
    preflight.extend(preflight::errors(&points));
    preflight.extend(preflight::waited(&points));
    Ok(Run::new(
        started_unix_s,
        environment,
        scenario.clone(),
        cpus,
        preflight,
        ping_pongs,
        points,
        ending,
    ))
}

/// Returns the number of the last round that was finished, each of which has its ping-pong first.
fn finished(ping_pongs: &[PingPong]) -> u32 {
    ping_pongs.last().map_or(0, |it| it.round)
}

struct Bench<'a> {
    scenario: &'a Scenario,
    rig: Rig<'a>,
    progress: Progress,
    points: Vec<Point>,
    ping_pongs: Vec<PingPong>,
}

impl<'a> Bench<'a> {
    fn new(
        scenario: &'a Scenario,
        target: Target<'a>,
        cpus: Pair,
        interrupt: &'a Interrupt,
        points: Vec<Point>,
        ping_pongs: Vec<PingPong>,
    ) -> Self {
        let loads = scenario.loads.iter();
        let a_round = loads.map(|it| it.iodepths.len() + it.rates.len()).sum();
        let each = scenario.ramp_time_ms + scenario.runtime_ms;
        let course = Course {
            points: a_round,
            rounds: scenario.rounds,
            rounds_done: finished(&ping_pongs),
            name_width: "open 95 %".len(),
            expected: Duration::from_millis(each.into()) + OVERHEAD,
            rest: Duration::ZERO,
        };
        Self {
            scenario,
            rig: Rig {
                scenario,
                target,
                cpus,
                clock: Clock::new(),
                interrupt,
            },
            progress: Progress::new(course),
            points,
            ping_pongs,
        }
    }

    fn all(&mut self) -> Result<Ending, RunError> {
        self.progress.untimed("reading the disk once");
        let ended = self.rig.read_once();
        match self.rig.interrupt.requested() {
            true => Err(RunError::Stopped),
            false => ended.and_then(|()| self.rounds()),
        }
    }

    /// Keeps the rounds that were finished.
    fn rounds(&mut self) -> Result<Ending, RunError> {
        for round in finished(&self.ping_pongs) + 1..=self.scenario.rounds {
            let finished = (self.points.len(), self.ping_pongs.len());
            let Err(failed) = self.round(round) else {
                continue;
            };
            self.points.truncate(finished.0);
            self.ping_pongs.truncate(finished.1);
            return match (self.points.is_empty(), self.rig.interrupt.requested()) {
                (true, true) => Err(RunError::Stopped),
                (true, false) => Err(failed),
                (false, true) => Ok(Ending::Stopped),
                (false, false) => Ok(Ending::Failed(failed.to_string())),
            };
        }
        Ok(Ending::Complete)
    }

    fn round(&mut self, round: u32) -> Result<(), RunError> {
        let Pair { client, worker, .. } = self.rig.cpus;
        let trips = ping_pong(client, worker, &self.rig.clock)?;
        self.ping_pongs.push(PingPong::new(round, &trips));
        let mut sustained = 0.0_f64;
        for load in &self.scenario.loads {
            let open = load.rates.iter().map(|&rate| (rate, LoadKind::Open));
            let closed = load
                .iodepths
                .iter()
                .map(|&it| (f64::from(it), LoadKind::Closed));
            for (number, kind) in closed.chain(open) {
                let load = match kind {
                    LoadKind::Closed => PointLoad::Closed {
                        iodepth: number as u32,
                    },
                    LoadKind::Open => PointLoad::Open {
                        rate: number,
                        rate_iops: number * sustained,
                    },
                };
                self.progress.begins(round, &load.to_string());
                let point = self.rig.measure(round, load)?;
                self.progress.ends(point.iops);
                if kind == LoadKind::Closed {
                    sustained = sustained.max(point.iops);
                }
                self.points.push(point);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
