//! One point: a worker and a client of its own, and what both used.

use std::thread::{self, Builder};

use pollux_dataplane::stats::QueueSnapshot;
use quanta::Clock;

use super::preflight::CpuTimes;
use super::{Point, PointLoad, RunError};
use crate::cpus::Pair;
use crate::interrupt::Interrupt;
use crate::load::{Window, closed, open};
use crate::loopback::{self, Client, ClientShape, Disk, Loopback, LoopbackError, WORKER};
use crate::scenario::{IODEPTH_MAX, Scenario};
use crate::thread_usage::{Thread, ThreadUsage};

/// What every point is measured with.
pub(super) struct Rig<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) disk: &'a (dyn Disk + Sync),
    pub(super) cpus: Pair,
    pub(super) clock: Clock,
    pub(super) interrupt: &'a Interrupt,
}

/// What is counted at either end of the measured time.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) worker: QueueSnapshot,
    pub(super) client_thread: ThreadUsage,
    pub(super) worker_thread: ThreadUsage,
    pub(super) cpus: CpuTimes,
}

/// Refuses a scenario that `disk` cannot serve.
pub(super) fn check(scenario: &Scenario, disk: &dyn Disk) -> Result<(), RunError> {
    let geometry = disk.geometry();
    let disk_bytes = geometry.capacity_sectors * 512;
    let block_bytes = u64::from(scenario.block_bytes());
    let bs = &scenario.bs;
    if block_bytes > disk_bytes {
        return Err(RunError::Disk(format!(
            "bs {bs}: more than the disk of {disk_bytes} bytes; use a larger one"
        )));
    }
    if !block_bytes.is_multiple_of(u64::from(geometry.block_bytes)) {
        return Err(RunError::Disk(format!(
            "bs {bs}: no multiple of the disk's blocks of {} bytes; use a larger one",
            geometry.block_bytes
        )));
    }
    let reads_only = scenario.rw.access(scenario.rwmixread).read_percent == 100;
    if geometry.read_only && !reads_only {
        return Err(RunError::Disk(format!(
            "rw {}: the disk is read-only; use rw = \"randread\"",
            scenario.rw
        )));
    }
    Ok(())
}

impl Rig<'_> {
    /// Measures one point.
    pub(super) fn measure(&self, round: u32, load: PointLoad) -> Result<Point, RunError> {
        let ended = thread::scope(|scope| {
            let client = Builder::new().name("bench/client".to_owned());
            let client = client.spawn_scoped(scope, || self.on_client(round, load));
            client.map(|it| it.join())
        });
        let ended = ended.map_err(LoopbackError::Memory)?;
        ended.map_err(|_| LoopbackError::Ended)?
    }

    fn on_client(&self, round: u32, load: PointLoad) -> Result<Point, RunError> {
        loopback::pin(self.cpus.client).map_err(LoopbackError::from)?;
        let mut client = Client::new(&self.shape(load)).map_err(LoopbackError::Memory)?;
        let loopback = Loopback::start(self.disk, self.cpus.worker, &client)?;
        let (client_thread, worker_thread) = (Thread::this(), Thread::named(WORKER));
        let mut counted = Vec::with_capacity(2);
        let mut count = || {
            counted.push(Counted {
                worker: loopback.counters(),
                client_thread: client_thread.usage(),
                worker_thread: worker_thread
                    .as_ref()
                    .map(Thread::usage)
                    .unwrap_or_default(),
                cpus: CpuTimes::read(&self.cpus),
            });
        };
        let window = Window {
            ramp_ns: u64::from(self.scenario.ramp_time_ms) * 1_000_000,
            runtime_ns: u64::from(self.scenario.runtime_ms) * 1_000_000,
            mark: &mut count,
            stop: &|| self.interrupt.requested(),
        };
        let measured = match load {
            PointLoad::Closed { iodepth } => closed(&mut client, iodepth, &self.clock, window),
            PointLoad::Open { rate_iops, .. } => {
                let seed = u64::from(round);
                open(&mut client, rate_iops, seed, &self.clock, window)
            }
        };
        let failed = |reason: String| RunError::Load {
            name: load.to_string(),
            reason,
        };
        let measured = measured.map_err(|error| failed(error.to_string()))?;
        if let Some(fault) = loopback.fault() {
            return Err(failed(format!(
                "{fault}; this is a bug of pollux, report it"
            )));
        }
        match counted.as_slice() {
            [before, after] => Ok(Point::new(round, load, &measured, before, after)),
            _ => Err(LoopbackError::Ended.into()),
        }
    }

    fn shape(&self, load: PointLoad) -> ClientShape {
        let scenario = self.scenario;
        let requests = match load {
            PointLoad::Closed { iodepth } => iodepth,
            PointLoad::Open { .. } => IODEPTH_MAX.min(scenario.ring.requests()),
        };
        ClientShape {
            features: scenario.ring.features(),
            queue_size: scenario.ring.size,
            requests: requests as u16,
            block_bytes: scenario.block_bytes(),
            disk_bytes: self.disk.geometry().capacity_sectors * 512,
            access: scenario.rw.access(scenario.rwmixread),
        }
    }
}
