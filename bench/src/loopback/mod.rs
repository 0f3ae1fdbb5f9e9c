//! The worker, as it is, and a client that polls, on two CPUs of one process: the kernel has no part in it.

mod client;
mod disk;
mod ping_pong;

use std::io;
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sched::sched_setaffinity;
use nix::unistd::Pid;
use pollux_dataplane::inflight::InFlightLog;
use pollux_dataplane::limits::WORKER_ANSWER_MS_MAX;
use pollux_dataplane::ring::SetupError;
use pollux_dataplane::stats::QueueSnapshot;
use pollux_dataplane::worker::{
    Answer, Command, Home, Notifier, PollMode, QueueSetup, ServiceConfig, SpawnError, ThreadConfig,
    Unanswered, Worker, WorkerConfig,
};

pub(crate) use client::{Client, ClientShape};
pub use disk::Disk;
pub(crate) use ping_pong::ping_pong;

use crate::cpus::{self, CpuError};

/// Name of the worker's thread.
const WORKER: &str = "bench/vq0";

/// Why there is no worker with a client.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    /// No memory, file descriptor or thread.
    #[error("loopback: no memory to share with the worker: {0}; use a smaller bs or iodepth")]
    Memory(#[source] io::Error),
    /// No worker.
    #[error(transparent)]
    Worker(#[from] SpawnError),
    /// A CPU.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// It cannot serve the queue.
    #[error("loopback: the worker refuses the queue: {0}")]
    Queue(#[from] SetupError),
    /// It hangs.
    #[error("loopback: {0}; its backend hangs, use another one")]
    Unanswered(#[from] Unanswered),
    /// It, or the client's thread, has ended before its time.
    #[error("loopback: a thread has ended before its time; see its message above")]
    Ended,
}

/// The driver is not told of anything: it looks.
#[derive(Debug)]
pub struct Silent;

impl Notifier for Silent {
    fn interrupt(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn listen(&mut self, _: Option<BorrowedFd<'_>>) -> io::Result<()> {
        Ok(())
    }
}

/// A worker that serves the queue of a client.
#[derive(Debug)]
pub(crate) struct Loopback {
    worker: Worker,
}

impl Loopback {
    /// Starts a worker over `disk` on `cpu`, set up as `pollux serve` does, that serves the queue of `client`.
    pub(crate) fn start(
        disk: &dyn Disk,
        cpu: usize,
        client: &Client,
    ) -> Result<Self, LoopbackError> {
        let queue = client.config();
        let log = InFlightLog::anonymous(1, queue.size);
        let log = log.map_err(|e| LoopbackError::Memory(io::Error::other(e)))?;
        let config = WorkerConfig {
            home: Home::Own(ThreadConfig {
                name: WORKER.to_owned(),
                cpu: Some(cpu),
                mode: PollMode::Busy,
                confinement: None,
            }),
            service: ServiceConfig {
                interrupt_hold: Duration::ZERO,
                latency_sample: NonZeroU32::MIN,
                geometry: disk.geometry().clone(),
                in_flight: log.queue(0),
                woken: None,
            },
        };
        let worker = disk.spawn_worker(config, Silent)?;
        let loopback = Self { worker };
        let setup = QueueSetup {
            queue,
            table: client.table(),
            write_through: false,
        };
        let number = loopback.worker.mailbox.post(Command::Start(setup.into()))?;
        let deadline = Instant::now() + Duration::from_millis(WORKER_ANSWER_MS_MAX);
        match loopback.worker.mailbox.wait(number, deadline)? {
            Answer::Started(state) => state?,
            _ => return Err(LoopbackError::Ended),
        };
        Ok(loopback)
    }

    /// Returns what the worker has counted.
    pub(crate) fn counters(&self) -> QueueSnapshot {
        self.worker.counters.snapshot()
    }

    /// Returns what the client did wrong in the worker's eyes: nothing, or this program has a bug.
    pub(crate) fn fault(&self) -> Option<String> {
        self.worker.fault.load().map(|fault| fault.to_string())
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        // A worker that hangs in its backend is left behind: it ends with the process.
        let _ = self.worker.mailbox.post(Command::Exit);
        let deadline = Instant::now() + Duration::from_millis(WORKER_ANSWER_MS_MAX);
        while !self.worker.host.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Keeps the calling thread on `cpu`.
pub(crate) fn pin(cpu: usize) -> Result<(), CpuError> {
    let set = cpus::set(&[cpu])?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|reason| CpuError::Unusable { cpu, reason })
}
