//! What Prometheus is told: every device as text in the OpenMetrics format.
//!
//! What there is stands in one table ([`table::METRICS`]); `control/METRICS.md` says the same for people, and a test
//! compares the two.

mod table;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::device::{DeviceSnapshot, LatencyBucket, QueueStats};
use table::{Kind, METRICS, Metric, Source};

/// The type of what [`exposition`] returns.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of the latency buckets, in nanoseconds: those of [`LatencyBucket`] have two digits, so none lies across one.
const BOUNDS_NS: [u64; 24] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// A device, and what it looks like; none if its control thread does not answer.
pub type Seen = (String, Option<DeviceSnapshot>);

/// Returns all metrics of `devices`.
///
/// # Errors
///
/// None of those that text can have.
pub fn exposition(devices: Vec<Seen>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Devices(devices)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Devices(Vec<Seen>);

impl Collector for Devices {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        METRICS.iter().try_for_each(|metric| {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            // The encoder says that it is a total.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let encoder = encoder.encode_descriptor(name, metric.help, None, kind)?;
            self.encode_one(metric, encoder)
        })
    }
}

impl Devices {
    fn encode_one(&self, metric: &Metric, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        match metric.source {
            Source::Build => {
                let version = [("version", env!("CARGO_PKG_VERSION"))];
                number(encoder.encode_family(&version)?, metric.kind, 1)
            }
            Source::Answers => self.0.iter().try_for_each(|(name, seen)| {
                let labels = [("device", name.as_str())];
                let answers = seen.is_some().into();
                number(encoder.encode_family(&labels)?, metric.kind, answers)
            }),
            Source::Device(value) => self.devices().try_for_each(|device| {
                let labels = [("device", device.name.as_str())];
                number(encoder.encode_family(&labels)?, metric.kind, value(device))
            }),
            Source::DeviceBy(label, values) => self.devices().try_for_each(|device| {
                values(device).into_iter().try_for_each(|(which, value)| {
                    let labels = [("device", device.name.as_str()), (label, &which)];
                    number(encoder.encode_family(&labels)?, metric.kind, value)
                })
            }),
            Source::Queue(value) => self.queues().try_for_each(|(device, queue)| {
                let index = queue.index.to_string();
                let labels = [("device", device), ("queue", &index)];
                number(encoder.encode_family(&labels)?, metric.kind, value(queue))
            }),
            Source::QueueBy(label, values) => self.queues().try_for_each(|(device, queue)| {
                let index = queue.index.to_string();
                values(queue).into_iter().try_for_each(|(which, value)| {
                    let labels = [("device", device), ("queue", &index), (label, &which)];
                    number(encoder.encode_family(&labels)?, metric.kind, value)
                })
            }),
            Source::Latency => self.queues().try_for_each(|(device, queue)| {
                let index = queue.index.to_string();
                let labels = [("device", device), ("queue", &index)];
                let sum = queue.latency_ns.sum as f64 / 1e9;
                let count = queue.latency_ns.count;
                let mut encoder = encoder.encode_family(&labels)?;
                encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets(queue), None)
            }),
        }
    }

    fn devices(&self) -> impl Iterator<Item = &DeviceSnapshot> {
        self.0.iter().filter_map(|(_, seen)| seen.as_ref())
    }

    fn queues(&self) -> impl Iterator<Item = (&str, &QueueStats)> {
        self.devices().flat_map(|device| {
            let queues = device.queues.iter();
            queues.map(|queue| (device.name.as_str(), queue))
        })
    }
}

fn number(mut encoder: MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    match kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
        Kind::Gauge | Kind::Histogram => encoder.encode_gauge(&value),
    }
}

/// Returns the upper bound of each bucket in seconds, and what is in it alone.
fn buckets(queue: &QueueStats) -> Vec<(f64, u64)> {
    let mut left = queue.latency_buckets.iter().peekable();
    let mut upto = |bound_ns: u64| {
        let mut count = 0;
        while let Some(LatencyBucket { count: more, .. }) =
            left.next_if(|bucket| bucket.at_most_ns <= bound_ns)
        {
            count += more;
        }
        count
    };
    let bounds = BOUNDS_NS.iter().map(|&bound| (bound as f64 / 1e9, bound));
    let all = bounds.chain(std::iter::once((f64::INFINITY, u64::MAX)));
    all.map(|(seconds, bound)| (seconds, upto(bound))).collect()
}

#[cfg(test)]
mod tests;
