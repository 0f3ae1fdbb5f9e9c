//! The result of a run: every raw value, the machine, and the medians drawn from them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use pollux_dataplane::stats::QueueSnapshot;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::measure::Counted;
use super::{Finding, Row, summary};
use crate::compare::Ending;
use crate::cpus::Pair;
use crate::environment::Environment;
use crate::load::{LatencyNs, Measured};
use crate::scenario::Scenario;
use crate::thread_usage::ThreadUsage;

/// Grows when a field changes its meaning or goes away. `bench/run.schema.json` is the schema of this version.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// Everything that a run found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Version of this format.
    pub schema_version: u32,
    /// Start of the run, seconds since 1970 UTC.
    pub started_unix_s: u64,
    /// Whether all rounds are in it.
    pub ending: Ending,
    /// All rounds are in it, and nothing that is known to spoil figures was found.
    pub clean: bool,
    /// What spoils the figures.
    pub preflight: Vec<Finding>,
    /// The machine and the program.
    pub environment: Environment,
    /// What was asked for, defaults included.
    pub scenario: Scenario,
    /// Where the threads were.
    pub cpus: Pair,
    /// Medians by load.
    pub summary: Vec<Row>,
    /// What the two CPUs take for a cache line there and back, before each round.
    pub ping_pong: Vec<PingPong>,
    /// Every value of every finished round, in the order of measurement.
    pub points: Vec<Point>,
}

/// Round trips of one cache line between the two CPUs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PingPong {
    /// Counted from 1.
    pub round: u32,
    /// There and back.
    pub round_trip_ns: LatencyNs,
    /// The same in full: an HDR histogram of ns, V2 compressed, base64.
    pub histogram: String,
}

/// What was asked of the disk at one point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PointLoad {
    /// A request that completes is replaced.
    Closed {
        /// Requests kept in flight.
        iodepth: u32,
    },
    /// Requests arrive by a Poisson process.
    Open {
        /// Fraction of the most that the closed loads reached in this round.
        rate: f64,
        /// Arrivals a second.
        rate_iops: f64,
    },
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// Counted from 1.
    pub round: u32,
    /// What was asked of the disk.
    pub load: PointLoad,
    /// Requests completed a second.
    pub iops: f64,
    /// Requests that one CPU given to the worker carries a second: by its time on a CPU.
    pub iops_per_core: f64,
    /// CPU time of the worker a request.
    pub worker_cpu_ns_per_request: f64,
    /// CPU time of the client a request.
    pub client_cpu_ns_per_request: f64,
    /// From when a request was to begin to its completion.
    pub latency_ns: LatencyNs,
    /// Requests completed in the measured time.
    pub requests: u64,
    /// Of them those that failed.
    pub errors: u64,
    /// Arrivals that had not begun when the load was given up; their wait until then is among the latencies.
    pub unfinished: u64,
    /// The measured time.
    pub elapsed_ns: u64,
    /// Latencies in full: an HDR histogram of ns, V2 compressed, base64.
    pub histogram: String,
    /// What the worker counted.
    pub worker: WorkerCounters,
    /// What the worker's thread used.
    pub worker_thread: ThreadUsage,
    /// What the client's thread used.
    pub client_thread: ThreadUsage,
    /// Share of the CPUs' time that the hypervisor gave to others.
    pub steal: f64,
}

/// What the worker counted in the measured time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerCounters {
    /// Requests completed.
    pub requests: u64,
    /// Of them those that failed.
    pub errors: u64,
    /// Data bytes given to the client.
    pub bytes_read: u64,
    /// Data bytes taken from the client.
    pub bytes_written: u64,
    /// Passes that did something.
    pub polls_busy: u64,
    /// Passes that found nothing to do.
    pub polls_idle: u64,
    /// Times that the worker slept.
    pub sleeps: u64,
    /// Kicks received.
    pub kicks: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// System calls of the backend.
    pub backend_system_calls: u64,
}

impl WorkerCounters {
    fn since(&self, before: &Self) -> Self {
        let after = self;
        Self {
            requests: after.requests - before.requests,
            errors: after.errors - before.errors,
            bytes_read: after.bytes_read - before.bytes_read,
            bytes_written: after.bytes_written - before.bytes_written,
            polls_busy: after.polls_busy - before.polls_busy,
            polls_idle: after.polls_idle - before.polls_idle,
            sleeps: after.sleeps - before.sleeps,
            kicks: after.kicks - before.kicks,
            interrupts: after.interrupts - before.interrupts,
            backend_system_calls: after.backend_system_calls - before.backend_system_calls,
        }
    }
}

impl From<QueueSnapshot> for WorkerCounters {
    fn from(counted: QueueSnapshot) -> Self {
        Self {
            requests: counted.requests,
            errors: counted.errors,
            bytes_read: counted.bytes_read,
            bytes_written: counted.bytes_written,
            polls_busy: counted.polls_busy,
            polls_idle: counted.polls_idle,
            sleeps: counted.sleeps,
            kicks: counted.kicks,
            interrupts: counted.interrupts,
            backend_system_calls: counted.backend_system_calls,
        }
    }
}

impl PointLoad {
    /// Returns whether it is the same as `other`, perhaps in another round.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open { rate: one, .. }, Self::Open { rate: two, .. }) => one == two,
            _ => self == other,
        }
    }
}

impl fmt::Display for PointLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Closed { iodepth } => format!("QD {iodepth}"),
            Self::Open { rate, .. } => format!("open {:.0} %", rate * 100.0),
        };
        f.pad(&name)
    }
}

impl PingPong {
    pub(super) fn new(round: u32, trips: &Histogram<u64>) -> Self {
        Self {
            round,
            round_trip_ns: LatencyNs::of(trips),
            histogram: encode(trips),
        }
    }
}

impl Point {
    pub(super) fn new(
        round: u32,
        load: PointLoad,
        measured: &Measured,
        before: &Counted,
        after: &Counted,
    ) -> Self {
        let worker = after.worker.since(&before.worker);
        let worker_thread = after.worker_thread.since(before.worker_thread);
        let client_thread = after.client_thread.since(before.client_thread);
        let each = |cpu_ns: u64| cpu_ns as f64 / worker.requests.max(1) as f64;
        Self {
            round,
            load,
            iops: measured.requests as f64 / (measured.elapsed_ns as f64 / 1e9),
            iops_per_core: 1e9 / each(worker_thread.cpu_ns.max(1)),
            worker_cpu_ns_per_request: each(worker_thread.cpu_ns),
            client_cpu_ns_per_request: each(client_thread.cpu_ns),
            latency_ns: LatencyNs::of(&measured.latencies),
            requests: measured.requests,
            errors: measured.errors,
            unfinished: measured.unfinished,
            elapsed_ns: measured.elapsed_ns,
            histogram: encode(&measured.latencies),
            worker,
            worker_thread,
            client_thread,
            steal: after.cpus.since(&before.cpus).steal_share(),
        }
    }
}

impl Point {
    /// Returns the latencies in full, in ns; none where what is stored is no histogram.
    pub fn latencies(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.histogram).ok()?;
        Deserializer::new().deserialize(&mut &bytes[..]).ok()
    }
}

impl Run {
    #[expect(clippy::too_many_arguments, reason = "the parts of a whole, each once")]
    pub(super) fn new(
        started_unix_s: u64,
        environment: Environment,
        scenario: Scenario,
        cpus: Pair,
        preflight: Vec<Finding>,
        ping_pong: Vec<PingPong>,
        points: Vec<Point>,
        ending: Ending,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            started_unix_s,
            clean: preflight.is_empty() && ending == Ending::Complete,
            ending,
            preflight,
            environment,
            scenario,
            cpus,
            summary: summary::rows(&points, &ping_pong),
            ping_pong,
            points,
        }
    }
}

/// Returns `histogram` as text that other programs read.
fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    let written = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    // Into memory, and counts are below 2^63.
    written.expect("a histogram of counts");
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_read_back() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for value in [1, 100, 100, 5_000_000] {
            histogram.record(value).unwrap();
        }
        let bytes = STANDARD.decode(encode(&histogram)).unwrap();
        let again: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(again, histogram);
    }

    #[test]
    fn the_schema_file_is_that_of_the_types() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Run)).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/run.schema.json");
        if std::env::var_os("WRITE_SCHEMA").is_some() {
            std::fs::write(path, &schema).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == schema,
            "bench/run.schema.json is not that of `Run`: write it anew with WRITE_SCHEMA=1 cargo test -p \
             pollux-bench schema, and raise SCHEMA_VERSION where readers would misunderstand"
        );
    }
}
