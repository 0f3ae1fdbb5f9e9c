//! Medians, and how far they can be trusted.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How often the bootstrap draws.
const RESAMPLES: usize = 4000;
/// Half of what lies outside of an interval of 95 %.
const TAIL: f64 = 0.025;

/// Where 95 of 100 resampled values lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    /// Its lower end.
    pub(crate) low: f64,
    /// Its upper end.
    pub(crate) high: f64,
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
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let at = |part: f64| values[(part * last as f64).round() as usize];
    Some(Interval {
        low: at(TAIL),
        high: at(1.0 - TAIL),
    })
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
    fn what_drifts_with_both_sides_leaves_their_ratio_alone() {
        let drift = [1.0, 2.0, 0.5, 3.0, 1.5];
        let rounds = drift.map(|speed| (2.0 * speed, speed));
        let interval = interval_of_ratio(&rounds, 7).unwrap();
        assert_eq!((interval.low, interval.high), (2.0, 2.0));
    }
}
