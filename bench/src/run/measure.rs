//! One point: a worker and a client of its own, and what both used.

use std::thread::{self, Builder};

use quanta::Clock;

use super::preflight::CpuTimes;
use super::target::Target;
use super::{Point, PointLoad, RunError, WorkerCounters};
use crate::cpus::Pair;
use crate::interrupt::Interrupt;
use crate::load::{Window, closed, once, open};
use crate::loopback::{self, Client, ClientShape, LoopbackError};
use crate::scenario::{Access, IODEPTH_MAX, Scenario};
use crate::thread_usage::{Thread, ThreadUsage};
use crate::vhost::frontend::Capacity;

/// Bytes of a request that reads the disk for the first time, and how many there are at once.
const FIRST_BLOCK_BYTES: u64 = 256 << 10;
const FIRST_IODEPTH: u16 = 4;
/// Time after which a disk has been read enough.
const FIRST_MS_MAX: u64 = 3_000;

/// What every point is measured with.
pub(super) struct Rig<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) target: Target<'a>,
    pub(super) cpus: Pair,
    pub(super) clock: Clock,
    pub(super) interrupt: &'a Interrupt,
}

/// What is counted at either end of the measured time.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) worker: WorkerCounters,
    pub(super) client_thread: ThreadUsage,
    pub(super) worker_thread: ThreadUsage,
    pub(super) cpus: CpuTimes,
}

/// Refuses a scenario that `disk` cannot serve.
pub(super) fn check(scenario: &Scenario, disk: Capacity) -> Result<(), RunError> {
    let disk_bytes = disk.disk_bytes;
    let block_bytes = u64::from(scenario.block_bytes());
    let bs = &scenario.bs;
    if block_bytes > disk_bytes {
        return Err(RunError::Disk(format!(
            "bs {bs}: more than the disk of {disk_bytes} bytes; use a larger one"
        )));
    }
    if !block_bytes.is_multiple_of(u64::from(disk.block_bytes)) {
        return Err(RunError::Disk(format!(
            "bs {bs}: no multiple of the disk's blocks of {} bytes; use a larger one",
            disk.block_bytes
        )));
    }
    let reads_only = scenario.rw.access(scenario.rwmixread).read_percent == 100;
    if disk.read_only && !reads_only {
        return Err(RunError::Disk(format!(
            "rw {}: the disk is read-only; use rw = \"randread\"",
            scenario.rw
        )));
    }
    Ok(())
}

impl Rig<'_> {
    /// Reads the disk once, or what can be read of it in a few seconds: memory that was never touched comes page by
    /// page.
    pub(super) fn read_once(&self) -> Result<(), RunError> {
        self.on_client(|| {
            let shape = self.first_shape();
            let mut client = Client::new(&shape).map_err(LoopbackError::Memory)?;
            let _service = self.target.serve(&mut client, self.cpus.worker)?;
            let window = Window {
                ramp_ns: 0,
                runtime_ns: FIRST_MS_MAX * 1_000_000,
                mark: &mut || {},
                stop: &|| self.interrupt.requested(),
            };
            let requests = shape.disk_bytes / u64::from(shape.block_bytes);
            let ended = once(&mut client, requests, &self.clock, window);
            ended.map_err(|error| RunError::Load {
                name: "reading the disk once".to_owned(),
                reason: error.to_string(),
            })
        })
    }

    fn first_shape(&self) -> ClientShape {
        let disk_bytes = self.target.capacity().disk_bytes;
        ClientShape {
            features: self.scenario.ring.features(),
            queue_size: 64,
            requests: FIRST_IODEPTH,
            block_bytes: FIRST_BLOCK_BYTES.min(disk_bytes) as u32,
            disk_bytes,
            access: Access {
                random: false,
                read_percent: 100,
            },
        }
    }

    /// Measures one point.
    pub(super) fn measure(&self, round: u32, load: PointLoad) -> Result<Point, RunError> {
        self.on_client(|| self.point(round, load))
    }

    /// Runs `work` on a thread on the client's CPU.
    fn on_client<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, RunError> + Send,
    ) -> Result<T, RunError> {
        let pinned = || {
            loopback::pin(self.cpus.client).map_err(LoopbackError::from)?;
            work()
        };
        let ended = thread::scope(|scope| {
            let client = Builder::new().name("bench/client".to_owned());
            client.spawn_scoped(scope, pinned).map(|it| it.join())
        });
        let ended = ended.map_err(LoopbackError::Memory)?;
        ended.map_err(|_| LoopbackError::Ended)?
    }

    fn point(&self, round: u32, load: PointLoad) -> Result<Point, RunError> {
        let mut client = Client::new(&self.shape(load)).map_err(LoopbackError::Memory)?;
        let service = self.target.serve(&mut client, self.cpus.worker)?;
        let (client_thread, worker_thread) = (Thread::this(), service.worker());
        let mut counted = Vec::with_capacity(2);
        let mut count = || {
            // To ask a daemon takes a while, which is not to be in the threads' time.
            let asked_first = counted.is_empty().then(|| service.counters());
            let client_thread = client_thread.usage();
            let worker_thread = worker_thread.as_ref().map(Thread::usage);
            let cpus = CpuTimes::read(&self.cpus);
            let worker = asked_first.unwrap_or_else(|| service.counters());
            counted.push(worker.map(|worker| Counted {
                worker,
                client_thread,
                worker_thread: worker_thread.unwrap_or_default(),
                cpus,
            }));
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
        if let Some(fault) = service.fault() {
            return Err(failed(format!(
                "{fault}; this is a bug of pollux, report it"
            )));
        }
        let counted = counted.into_iter().collect::<Result<Vec<_>, _>>()?;
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
            disk_bytes: self.target.capacity().disk_bytes,
            access: scenario.rw.access(scenario.rwmixread),
        }
    }
}
