//! Every metric: its name, its meaning, and where its value comes from.

use crate::device::{DeviceSnapshot, QueueState, QueueStats};

/// How a value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Values of one metric that a label tells apart.
type Values = Vec<(String, u64)>;

/// Where values come from, and thereby which labels they have.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// The daemon: `version`.
    Build,
    /// Whether a device's control thread answers: `device`.
    Answers,
    /// A device: `device`.
    Device(fn(&DeviceSnapshot) -> u64),
    /// The same, with one label more.
    DeviceBy(&'static str, fn(&DeviceSnapshot) -> Values),
    /// A queue: `device` and `queue`.
    Queue(fn(&QueueStats) -> u64),
    /// The same, with one label more.
    QueueBy(&'static str, fn(&QueueStats) -> Values),
    /// The latency histogram of a queue: `device` and `queue`.
    Latency,
}

impl Source {
    /// Returns the names of the labels.
    #[cfg(test)]
    pub(super) fn labels(self) -> Vec<&'static str> {
        match self {
            Self::Build => vec!["version"],
            Self::Answers | Self::Device(_) => vec!["device"],
            Self::DeviceBy(label, _) => vec!["device", label],
            Self::Queue(_) | Self::Latency => vec!["device", "queue"],
            Self::QueueBy(label, _) => vec!["device", "queue", label],
        }
    }
}

/// One metric.
pub(super) struct Metric {
    /// As Prometheus shows it; a counter ends in `_total`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, source: Source, help: &'static str) -> Metric {
    let kind = Kind::Counter;
    Metric {
        name,
        kind,
        source,
        help,
    }
}

const fn gauge(name: &'static str, source: Source, help: &'static str) -> Metric {
    let kind = Kind::Gauge;
    Metric {
        name,
        kind,
        source,
        help,
    }
}

const DEVICE_STATES: [&str; 7] = [
    "reset",
    "probing",
    "running",
    "suspended",
    "paused",
    "refused",
    "broken",
];

const QUEUE_STATES: [(QueueState, &str); 4] = [
    (QueueState::Unused, "unused"),
    (QueueState::Running, "running"),
    (QueueState::Broken, "broken"),
    (QueueState::Stuck, "stuck"),
];

fn device_states(device: &DeviceSnapshot) -> Values {
    let states = DEVICE_STATES.into_iter();
    states
        .map(|state| (state.into(), (device.state == state).into()))
        .collect()
}

fn queue_states(queue: &QueueStats) -> Values {
    let states = QUEUE_STATES.into_iter();
    states
        .map(|(state, name)| (name.into(), (queue.state == state).into()))
        .collect()
}

fn backend_errors(queue: &QueueStats) -> Values {
    let errors = queue.host_errors.iter();
    errors.map(|(name, count)| (name.clone(), *count)).collect()
}

fn polls(queue: &QueueStats) -> Values {
    vec![
        ("busy".into(), queue.polls_busy),
        ("idle".into(), queue.polls_idle),
    ]
}

/// In the order in which they are shown.
pub(super) const METRICS: &[Metric] = &[
    gauge(
        "pollux_build_info",
        Source::Build,
        "Always 1; the version of the daemon is its label",
    ),
    gauge(
        "pollux_device_up",
        Source::Answers,
        "1 while the control thread of the device answers; if 0, the device has no other metrics",
    ),
    gauge(
        "pollux_device_state",
        Source::DeviceBy("state", device_states),
        "1 for the state that the device is in, 0 for the others",
    ),
    gauge(
        "pollux_device_capacity_bytes",
        Source::Device(|it| it.capacity_bytes),
        "Size of the disk",
    ),
    counter(
        "pollux_device_resets_total",
        Source::Device(|it| it.resets),
        "Times that a driver reset the device, or a vhost-user frontend left it; each attach is one or more",
    ),
    counter(
        "pollux_device_recoveries_total",
        Source::Device(|it| it.recoveries),
        "Times that the device was taken up where another daemon had left it",
    ),
    gauge(
        "pollux_queue_state",
        Source::QueueBy("state", queue_states),
        "1 for the state that the queue is in, 0 for the others; stuck is a worker that does not answer",
    ),
    counter(
        "pollux_requests_total",
        Source::Queue(|it| it.requests),
        "Requests completed, failed ones included",
    ),
    counter(
        "pollux_request_errors_total",
        Source::Queue(|it| it.errors),
        "Requests completed with a status other than OK",
    ),
    counter(
        "pollux_read_bytes_total",
        Source::Queue(|it| it.bytes_read),
        "Data given to the driver",
    ),
    counter(
        "pollux_written_bytes_total",
        Source::Queue(|it| it.bytes_written),
        "Data taken from the driver",
    ),
    Metric {
        name: "pollux_request_duration_seconds",
        kind: Kind::Histogram,
        source: Source::Latency,
        help: "Time inside of the device, from the avail ring to the used ring, of the requests that were timed (--latency-sample)",
    },
    gauge(
        "pollux_in_flight_requests",
        Source::Queue(|it| it.in_flight),
        "Requests that the backend has at this moment",
    ),
    gauge(
        "pollux_driver_depth_requests",
        Source::Queue(|it| it.depth.into()),
        "Requests that the driver keeps outstanding, as far as the worker has found out",
    ),
    counter(
        "pollux_kicks_total",
        Source::Queue(|it| it.kicks),
        "Notifications by the driver that woke the worker or were seen by it",
    ),
    counter(
        "pollux_interrupts_total",
        Source::Queue(|it| it.interrupts),
        "Interrupts raised; divided by requests it tells how well they are held together",
    ),
    counter(
        "pollux_interrupts_refused_total",
        Source::Queue(|it| it.interrupts_refused),
        "Interrupts that the kernel refused",
    ),
    counter(
        "pollux_worker_polls_total",
        Source::QueueBy("outcome", polls),
        "Passes of the worker that did something (busy) or found nothing (idle); the share of busy ones is how busy it is",
    ),
    counter(
        "pollux_worker_sleeps_total",
        Source::Queue(|it| it.sleeps),
        "Times that the worker slept",
    ),
    counter(
        "pollux_driver_faults_total",
        Source::Queue(|it| it.driver_faults),
        "Breaches of the specification by the driver",
    ),
    counter(
        "pollux_backend_errors_total",
        Source::QueueBy("errno", backend_errors),
        "Requests that the host failed, by the name of the error",
    ),
    counter(
        "pollux_backend_system_calls_total",
        Source::Queue(|it| it.backend_system_calls),
        "System calls of the backend",
    ),
    counter(
        "pollux_backend_registered_total",
        Source::Queue(|it| it.backend_registered),
        "Operations straight to or from memory that the backend has registered",
    ),
    counter(
        "pollux_backend_copied_total",
        Source::Queue(|it| it.backend_copied),
        "Operations whose data the backend copied, because of where the driver has it",
    ),
];
