//! Medians, and how far they can be trusted.

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// How often the bootstrap draws.
const RESAMPLES: usize = 4000;
/// Half of what lies outside of an interval of 95 %.
const TAIL: f64 = 0.025;

/// Where 95 of 100 resampled values lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The middle value, or the mean of the two in the middle; none of none.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    if values.len() % 2 == 1 {
        Some(upper)
    } else {
        Some((values[half - 1] + upper) / 2.0)
    }
}

/// The 95 % bootstrap interval (Efron's percentile method) of `statistic` over `rounds`, which are drawn whole,
/// with replacement: what was measured in one round stays together. None with less than two rounds. The same `seed`
/// gives the same interval.
pub(crate) fn bootstrap<T: Copy>(
    rounds: &[T],
    seed: u64,
    statistic: impl Fn(&[T]) -> Option<f64>,
) -> Option<Interval> {
    if rounds.len() < 2 {
        return None;
    }
    let mut random = SmallRng::seed_from_u64(seed);
    let mut drawn = Vec::with_capacity(rounds.len());
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.clear();
        drawn.extend((0..rounds.len()).map(|_| rounds[random.random_range(0..rounds.len())]));
        values.extend(statistic(&drawn));
    }
    middle_part(values)
}

/// What is left of `values` without [`TAIL`] of them at either end; none of none.
fn middle_part(mut values: Vec<f64>) -> Option<Interval> {
    let last = values.len().checked_sub(1)?;
    let mut at = |part: f64| {
        *values
            .select_nth_unstable_by(place(part, last), f64::total_cmp)
            .1
    };
    Some(Interval {
        low: at(TAIL),
        high: at(1.0 - TAIL),
    })
}

/// The draws of a bootstrap of medians, made once for values as many as `count`: which of them, in their order,
/// are in the middle of how many draws. A simulation judges thousands of such sets.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    middles: BTreeMap<(usize, usize), usize>,
    count: usize,
}

impl Draws {
    /// The same `seed` gives the same draws.
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut middles = BTreeMap::new();
        let times = if count == 0 { 0 } else { RESAMPLES };
        for _ in 0..times {
            let mut drawn: Vec<usize> = (0..count).map(|_| random.random_range(0..count)).collect();
            drawn.sort_unstable();
            let middle = (drawn[(count - 1) / 2], drawn[count / 2]);
            *middles.entry(middle).or_default() += 1;
        }
        Self { middles, count }
    }

    /// The 95 % interval of the median of `values`; none unless they are as many as these draws are for, and two.
    pub(crate) fn interval(&self, values: &[f64]) -> Option<Interval> {
        if values.len() != self.count || values.len() < 2 {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = |(&(lower, upper), &times)| ((sorted[lower] + sorted[upper]) / 2.0, times);
        let mut medians: Vec<(f64, usize)> = self.middles.iter().map(median).collect();
        medians.sort_by(|one, other| one.0.total_cmp(&other.0));
        let at = |part: f64| {
            let mut left = place(part, RESAMPLES - 1);
            let is_there = |(_, times): &&(f64, usize)| match left.checked_sub(*times) {
                Some(still_left) => {
                    left = still_left;
                    false
                }
                None => true,
            };
            medians.iter().find(is_there).map(|(value, _)| *value)
        };
        Some(Interval {
            low: at(TAIL)?,
            high: at(1.0 - TAIL)?,
        })
    }
}

/// The place of a quantile in sorted values of which the last is at `last`.
fn place(part: f64, last: usize) -> usize {
    (part * last as f64).round() as usize
}

/// The 95 % interval of the quotient of medians over rounds, each of which is a numerator and a denominator.
pub(crate) fn interval_of_ratio(rounds: &[(f64, f64)], seed: u64) -> Option<Interval> {
    bootstrap(rounds, seed, |drawn| {
        let above = median(drawn.iter().map(|round| round.0).collect())?;
        let below = median(drawn.iter().map(|round| round.1).collect())?;
        Some(above / below)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn an_interval_is_where_the_median_may_lie() {
        let rounds = [9.0, 10.0, 10.0, 11.0, 12.0, 10.5, 9.5, 10.2, 9.8];
        let middle = |drawn: &[f64]| median(drawn.to_vec());
        let interval = bootstrap(&rounds, 1, middle).unwrap();
        assert!(interval.low >= 9.0 && interval.low < 10.0, "{interval:?}");
        assert!(
            interval.high > 10.0 && interval.high <= 12.0,
            "{interval:?}"
        );
        assert_eq!(bootstrap(&rounds, 1, middle), Some(interval));
        assert_eq!(bootstrap(&[1.0], 1, middle), None);
    }

    #[test]
    fn prepared_draws_give_the_same_interval() {
        for values in [&[5.0, 1.0, 4.0, 2.0, 3.0][..], &[9.0, 8.5, 7.0, 1.0]] {
            let drawn = bootstrap(values, 3, |drawn| median(drawn.to_vec()));
            assert_eq!(Draws::new(values.len(), 3).interval(values), drawn);
        }
        assert_eq!(Draws::new(5, 3).interval(&[1.0, 2.0]), None);
        assert_eq!(Draws::new(0, 3).interval(&[]), None);
    }

    #[test]
    fn what_drifts_with_both_sides_leaves_their_ratio_alone() {
        let drift = [1.0, 2.0, 0.5, 3.0, 1.5];
        let rounds = drift.map(|speed| (2.0 * speed, speed));
        let interval = interval_of_ratio(&rounds, 7).unwrap();
        assert_eq!((interval.low, interval.high), (2.0, 2.0));
    }
}
