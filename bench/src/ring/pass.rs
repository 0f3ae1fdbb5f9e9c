//! Our whole passes, as a worker does them: the ring, the request, a null backend, counters and latencies.

use std::num::NonZeroU32;

use pollux_dataplane::backend::{Backend, DiskOptions, Null, NullQueue};
use pollux_dataplane::blk::Geometry;
use pollux_dataplane::inflight::{InFlightLog, QueueLog};
use pollux_dataplane::stats::{LatencyRecorder, QueueCounters};
use pollux_dataplane::worker::{Poller, Progress, QueueSetup, Records};

use super::{Fixture, Side};

/// Polls until a batch is done.
#[derive(Debug)]
pub struct PassSide {
    poller: Poller,
    backend: NullQueue,
    geometry: Geometry,
    counters: QueueCounters,
    latency: LatencyRecorder,
    in_flight: Option<QueueLog>,
}

impl PassSide {
    /// Returns a poller of the queue of `fixture` that times one pass in `latency_sample` and, if it `logs`,
    /// writes down what is in flight.
    ///
    /// # Panics
    ///
    /// Never: the fixture's queue is a sound one.
    pub fn new(fixture: &Fixture, latency_sample: NonZeroU32, logs: bool) -> Self {
        let setup = QueueSetup {
            queue: fixture.driver().config(),
            table: fixture.memory().table(),
            write_through: false,
        };
        let options = DiskOptions {
            size_bytes: 1 << 30,
            ..DiskOptions::default()
        };
        let disk = Null::new(&options, false).expect("a null disk");
        let poller = Poller::new(&setup).expect("a sound queue");
        let log = || {
            let log = InFlightLog::anonymous(1, setup.queue.size).expect("memory for a log");
            let mut log = log.queue(0).expect("a queue");
            poller.begin(&mut log);
            log
        };
        Self {
            in_flight: logs.then(log),
            poller,
            backend: disk.open_queue().expect("a null disk has queues"),
            geometry: disk.geometry().clone(),
            counters: QueueCounters::default(),
            latency: LatencyRecorder::new(quanta::Clock::new(), latency_sample),
        }
    }
}

impl Side for PassSide {
    fn serve(&mut self) -> u64 {
        let mut records = Records {
            in_flight: self.in_flight.as_mut(),
            counters: &self.counters,
            latency: &mut self.latency,
        };
        let mut served = 0;
        // A large batch takes several passes.
        while let Progress::Busy(count) =
            self.poller
                .poll_once(&mut self.backend, &self.geometry, &mut records)
        {
            served += count as u64;
        }
        served
    }
}
