//! What happened between two samples: snapshots in, a row for each device out.

use pollux_control::device::{DeviceSnapshot, LatencyBucket, QueueState, QueueStats};
use serde::Serialize;

/// What a device's state is called once no daemon shows it any more.
pub(crate) const GONE: &str = "gone";

/// What a queue counts, as far as a rate is made of it.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    requests: u64,
    bytes_read: u64,
    bytes_written: u64,
    errors: u64,
    polls_busy: u64,
    polls_idle: u64,
    sleeps: u64,
    interrupts: u64,
}

impl Counters {
    fn of(queue: &QueueStats) -> Self {
        Self {
            requests: queue.requests,
            bytes_read: queue.bytes_read,
            bytes_written: queue.bytes_written,
            errors: queue.errors,
            polls_busy: queue.polls_busy,
            polls_idle: queue.polls_idle,
            sleeps: queue.sleeps,
            interrupts: queue.interrupts,
        }
    }

    fn zip(self, other: Self, join: fn(u64, u64) -> Option<u64>) -> Option<Self> {
        Some(Self {
            requests: join(self.requests, other.requests)?,
            bytes_read: join(self.bytes_read, other.bytes_read)?,
            bytes_written: join(self.bytes_written, other.bytes_written)?,
            errors: join(self.errors, other.errors)?,
            polls_busy: join(self.polls_busy, other.polls_busy)?,
            polls_idle: join(self.polls_idle, other.polls_idle)?,
            sleeps: join(self.sleeps, other.sleeps)?,
            interrupts: join(self.interrupts, other.interrupts)?,
        })
    }
}

/// What happened a second, on average between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rates {
    /// Requests completed a second.
    pub(crate) iops: f64,
    pub(crate) read_bytes_per_second: f64,
    pub(crate) written_bytes_per_second: f64,
    /// Requests that failed, a second.
    pub(crate) errors_per_second: f64,
    /// Times that the worker slept, a second.
    pub(crate) sleeps_per_second: f64,
    /// Passes that did something, of all; `None` when there were none, as the worker slept.
    pub(crate) busy_share: Option<f64>,
    /// `None` when there were no requests.
    pub(crate) interrupts_per_request: Option<f64>,
}

impl Rates {
    fn new(counted: Counters, seconds: f64) -> Self {
        let rate = |count: u64| count as f64 / seconds;
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let polls = counted.polls_busy.saturating_add(counted.polls_idle);
        Self {
            iops: rate(counted.requests),
            read_bytes_per_second: rate(counted.bytes_read),
            written_bytes_per_second: rate(counted.bytes_written),
            errors_per_second: rate(counted.errors),
            sleeps_per_second: rate(counted.sleeps),
            busy_share: share(counted.polls_busy, polls),
            interrupts_per_request: share(counted.interrupts, counted.requests),
        }
    }
}

/// Latency inside of the device between two samples, in nanoseconds; `None` when there were no requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
}

impl Latency {
    fn of(buckets: &[LatencyBucket]) -> Self {
        Self {
            p50_ns: LatencyBucket::quantile(buckets, 0.5),
            p99_ns: LatencyBucket::quantile(buckets, 0.99),
        }
    }
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct QueueRow {
    pub(crate) index: u16,
    pub(crate) cpu: usize,
    pub(crate) state: QueueState,
    pub(crate) fault: Option<String>,
    /// `None` without an earlier sample of the same worker.
    pub(crate) rates: Option<Rates>,
    pub(crate) latency: Latency,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DeviceRow {
    pub(crate) name: String,
    pub(crate) backend: String,
    /// The snapshot's, or [`GONE`].
    pub(crate) state: String,
    pub(crate) problem: Option<String>,
    /// All queues together; `None` when one of them is not known.
    pub(crate) rates: Option<Rates>,
    /// All queues together.
    pub(crate) latency: Latency,
    pub(crate) queues: Vec<QueueRow>,
}

impl DeviceRow {
    pub(crate) fn is_gone(&self) -> bool {
        self.state == GONE
    }

    /// Returns what is left of it once no daemon shows it.
    pub(crate) fn gone(self) -> Self {
        Self {
            state: GONE.into(),
            problem: None,
            rates: None,
            latency: Latency::default(),
            queues: Vec::new(),
            ..self
        }
    }
}

/// Returns a row for each device of `after`, and one for each that was only in `before`: that is gone. Rates are over the
/// `seconds` between the two. There is none for what is new, and none where a counter went back: the worker is another one.
pub(crate) fn rows(
    before: &[DeviceSnapshot],
    after: &[DeviceSnapshot],
    seconds: f64,
) -> Vec<DeviceRow> {
    let mut rows: Vec<_> = after
        .iter()
        .map(|device| row(named(before, &device.name), device, seconds))
        .collect();
    let gone = before
        .iter()
        .filter(|device| named(after, &device.name).is_none());
    rows.extend(gone.map(|device| row(None, device, seconds).gone()));
    rows
}

fn named<'a>(devices: &'a [DeviceSnapshot], name: &str) -> Option<&'a DeviceSnapshot> {
    devices.iter().find(|device| device.name == name)
}

fn row(before: Option<&DeviceSnapshot>, device: &DeviceSnapshot, seconds: f64) -> DeviceRow {
    let earlier = |index: u16| {
        let queues = before.map_or(&[][..], |device| &device.queues);
        queues.iter().find(|queue| queue.index == index)
    };
    let counted = |queue: &QueueStats| {
        let earlier = Counters::of(earlier(queue.index).filter(|_| seconds > 0.0)?);
        Counters::of(queue).zip(earlier, u64::checked_sub)
    };
    let all = device
        .queues
        .iter()
        .map(counted)
        .try_fold(Counters::default(), |sum, queue| {
            sum.zip(queue?, u64::checked_add)
        });
    // A worker that counts from zero again is another one, and so is its histogram.
    let measured = |queue: &QueueStats| {
        let earlier = earlier(queue.index).filter(|_| counted(queue).is_some());
        earlier.map_or(Vec::new(), |earlier| {
            LatencyBucket::since(&queue.latency_buckets, &earlier.latency_buckets)
        })
    };
    let queues = device.queues.iter();
    let together = LatencyBucket::together(queues.clone().flat_map(measured));
    let queues: Vec<_> = queues
        .map(|queue| QueueRow {
            index: queue.index,
            cpu: queue.cpu,
            state: queue.state,
            fault: queue.fault.clone(),
            rates: counted(queue).map(|counted| Rates::new(counted, seconds)),
            latency: Latency::of(&measured(queue)),
        })
        .collect();
    DeviceRow {
        name: device.name.clone(),
        backend: device.backend.clone(),
        state: device.state.clone(),
        problem: device.problem.clone(),
        rates: all
            .filter(|_| before.is_some())
            .map(|counted| Rates::new(counted, seconds)),
        latency: Latency::of(&together),
        queues,
    }
}

#[cfg(test)]
mod tests;
