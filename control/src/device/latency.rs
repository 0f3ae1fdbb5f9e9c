//! Latencies as others are told of them: percentiles, and counts that can be added and subtracted.

use std::collections::BTreeMap;

use pollux_dataplane::stats::Histogram;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Percentiles of a histogram, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LatencySnapshot {
    /// Requests measured.
    pub count: u64,
    /// What all of them took together.
    #[serde(default)]
    pub sum: u64,
    /// Shortest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

impl From<&Histogram> for LatencySnapshot {
    fn from(histogram: &Histogram) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            sum: (histogram.mean() * histogram.len() as f64) as u64,
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// Requests of about the same latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LatencyBucket {
    /// The longest that one of them took, in nanoseconds, rounded up to two digits.
    pub at_most_ns: u64,
    /// How many there are.
    pub count: u64,
}

impl LatencyBucket {
    /// Returns what was recorded, in ascending order.
    pub fn all(histogram: &Histogram) -> Vec<Self> {
        let mut buckets: Vec<Self> = Vec::new();
        for recorded in histogram.iter_recorded() {
            let value = histogram.lowest_equivalent(recorded.value_iterated_to());
            let at_most_ns = two_digits(value);
            let count = recorded.count_since_last_iteration();
            match buckets.last_mut().filter(|it| it.at_most_ns == at_most_ns) {
                Some(bucket) => bucket.count += count,
                None => buckets.push(Self { at_most_ns, count }),
            }
        }
        buckets
    }

    /// Returns what was recorded after `before`, which is an earlier state of `now`.
    pub fn since(now: &[Self], before: &[Self]) -> Vec<Self> {
        let then = |bucket: &Self| {
            let same = |it: &&Self| it.at_most_ns == bucket.at_most_ns;
            before.iter().find(same).map_or(0, |it| it.count)
        };
        let fresh = now.iter().map(|bucket| Self {
            count: bucket.count.saturating_sub(then(bucket)),
            ..*bucket
        });
        fresh.filter(|bucket| bucket.count > 0).collect()
    }

    /// Returns what `all` have together, in ascending order.
    pub fn together(all: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut counts = BTreeMap::new();
        for bucket in all {
            *counts.entry(bucket.at_most_ns).or_default() += bucket.count;
        }
        let buckets = counts.into_iter();
        buckets
            .map(|(at_most_ns, count)| Self { at_most_ns, count })
            .collect()
    }

    /// Returns the latency that the share `quantile` of `buckets` does not exceed, in nanoseconds; `None` of nothing.
    pub fn quantile(buckets: &[Self], quantile: f64) -> Option<u64> {
        let total: u64 = buckets.iter().map(|bucket| bucket.count).sum();
        let wanted = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = buckets.iter().find(|bucket| {
            seen += bucket.count;
            seen >= wanted
        });
        reached.map(|bucket| bucket.at_most_ns)
    }
}

/// Returns `value` rounded up to two decimal digits: bounds that people choose are among the results.
fn two_digits(value: u64) -> u64 {
    let unit = 10_u64.pow(value.checked_ilog10().unwrap_or(0).saturating_sub(1));
    value.div_ceil(unit) * unit
}

#[cfg(test)]
mod tests {
    use pollux_dataplane::stats::new_histogram;

    use super::*;

    #[test]
    fn latencies_are_rounded_up_to_two_digits() {
        for (value, rounded) in [
            (1, 1),
            (99, 99),
            (100, 100),
            (101, 110),
            (2500, 2500),
            (2501, 2600),
            (9_901_000_000, 10_000_000_000),
        ] {
            assert_eq!(two_digits(value), rounded);
        }
    }

    #[test]
    fn what_two_moments_differ_by_is_what_was_recorded_in_between() {
        let bucket = |at_most_ns, count| LatencyBucket { at_most_ns, count };
        let (before, now) = (
            [bucket(10, 3), bucket(20, 1)],
            [bucket(10, 3), bucket(20, 5), bucket(30, 2)],
        );
        let since = LatencyBucket::since(&now, &before);
        assert_eq!(since, [bucket(20, 4), bucket(30, 2)]);
        assert_eq!(LatencyBucket::since(&now, &[]), now);
        let together = LatencyBucket::together(before.into_iter().chain(since));
        assert_eq!(together, now);
    }

    #[test]
    fn buckets_hold_all_that_was_recorded_and_tell_its_quantiles() {
        let mut histogram = new_histogram();
        assert_eq!(LatencyBucket::all(&histogram), []);
        assert_eq!(LatencyBucket::quantile(&[], 0.5), None);
        for value in 1..=1000 {
            histogram.record(value * 1000).unwrap();
        }
        let buckets = LatencyBucket::all(&histogram);
        assert_eq!(buckets.iter().map(|it| it.count).sum::<u64>(), 1000);
        assert!(
            buckets
                .windows(2)
                .all(|it| it[0].at_most_ns < it[1].at_most_ns)
        );
        let count_to_250_us = buckets.iter().filter(|it| it.at_most_ns <= 250_000);
        assert_eq!(count_to_250_us.map(|it| it.count).sum::<u64>(), 250);
        for (quantile, expected) in [
            (0.0, 1000),
            (0.5, 500_000),
            (0.99, 990_000),
            (1.0, 1_000_000),
        ] {
            assert_eq!(LatencyBucket::quantile(&buckets, quantile), Some(expected));
        }
        let summed = LatencySnapshot::from(&histogram).sum;
        assert!(summed.abs_diff(500_500_000) < 500_000, "{summed}");
    }
}
