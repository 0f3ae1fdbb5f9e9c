//! From paired values to a verdict. Pure: no clock, no machine, and a seed for the bootstrap.

use std::fmt;

use serde::Serialize;

use crate::statistics::{Draws, Interval, median};

/// Fewer rounds tell nothing: the interval of three is their lowest to their highest.
pub const ROUNDS_MIN: usize = 3;
/// An effect has to be so many times the noise.
const NOISE_FACTOR: f64 = 3.0;
/// No smaller effect counts, however quiet the machine is: code that moves in memory does as much.
const EFFECT_MIN: f64 = 0.02;
/// Where less than this could not be told from noise, nothing is told.
const THRESHOLD_MAX: f64 = 0.3;
/// Standard deviation of normally distributed values over their mean distance from 0.
const DEVIATION_PER_MEAN_DISTANCE: f64 = 1.253_314_137_315_500_3;
const SEED: u64 = 0x706f_6c6c_7578;

/// Which way a value is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// As IOPS are.
    Higher,
    /// As latencies are.
    Lower,
}

/// Two values that were measured one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Of the baseline.
    pub baseline: f64,
    /// Of the candidate, or of the baseline once more.
    pub candidate: f64,
}

/// What is to be done about a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No change that counts.
    Pass,
    /// It is worse.
    Regression,
    /// It is better.
    Improvement,
    /// The machine is too noisy, or the rounds disagree.
    Inconclusive,
}

/// A verdict and all that it rests on. Shares of 1, not percents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Relative change from baseline to candidate: the median of that of each pair.
    pub effect: f64,
    /// Where it lies with 95 %.
    pub interval: Interval,
    /// How far two values of the baseline come out apart: a standard deviation.
    pub noise: f64,
    /// The smallest change for the worse that counts.
    pub threshold: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Values that cannot be judged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvidenceError {
    /// Too few pairs.
    #[error("gate: {0} rounds cannot be judged; take at least {ROUNDS_MIN}")]
    Few(usize),
    /// More or fewer pairs than the judge was made for.
    #[error(
        "gate: {found} rounds where {expected} were expected; give every round both of its values"
    )]
    Count {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A value that no relative change can be drawn from.
    #[error("gate: a value of {0} cannot be compared; measure one above 0")]
    Value(f64),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Regression => "regression",
            Self::Improvement => "improvement",
            Self::Inconclusive => "inconclusive",
        })
    }
}

impl Pair {
    /// The change as a logarithm, in which a gain and the loss that undoes it are as far from 0.
    fn change(self) -> Result<f64, EvidenceError> {
        let usable = |value: f64| value.is_finite() && value > 0.0;
        match [self.baseline, self.candidate]
            .into_iter()
            .find(|it| !usable(*it))
        {
            Some(value) => Err(EvidenceError::Value(value)),
            None => Ok((self.candidate / self.baseline).ln()),
        }
    }
}

/// Judges pairs of one number of rounds.
#[derive(Clone, Debug)]
pub struct Judge {
    rounds: usize,
    draws: Draws,
}

impl Judge {
    /// A judge of `rounds` pairs of A/B.
    ///
    /// # Errors
    /// Fewer than [`ROUNDS_MIN`].
    pub fn new(rounds: usize) -> Result<Self, EvidenceError> {
        if rounds < ROUNDS_MIN {
            return Err(EvidenceError::Few(rounds));
        }
        let draws = Draws::new(rounds, SEED);
        Ok(Self { rounds, draws })
    }

    /// How many pairs of A/B it judges.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Judges `changed`, pairs of baseline and candidate, by the noise of `same`, pairs of the baseline with itself.
    ///
    /// # Errors
    /// Too few pairs, or values that are not above 0.
    pub fn judge(
        &self,
        better: Better,
        same: &[Pair],
        changed: &[Pair],
    ) -> Result<Judgement, EvidenceError> {
        if same.len() < ROUNDS_MIN {
            return Err(EvidenceError::Few(same.len()));
        }
        let (found, expected) = (changed.len(), self.rounds);
        let count = EvidenceError::Count { found, expected };
        let changes = |pairs: &[Pair]| {
            pairs
                .iter()
                .map(|pair| pair.change())
                .collect::<Result<Vec<f64>, _>>()
        };
        let changed = changes(changed)?;
        let interval = self.draws.interval(&changed).ok_or_else(|| count.clone())?;
        let effect = median(changed).ok_or(count)?;
        let noise = noise(&changes(same)?);
        Ok(verdict(better, effect, interval, noise))
    }
}

/// The standard deviation of changes around 0, where all of them would be without noise. By the mean distance: one
/// value far out moves it less than it would move the root of squares.
fn noise(same: &[f64]) -> f64 {
    let sum: f64 = same.iter().map(|change| change.abs()).sum();
    DEVIATION_PER_MEAN_DISTANCE * sum / same.len() as f64
}

/// From logarithms, as a loss of IOPS is never above 1 as a share, and would be below three times much noise whatever
/// its size.
fn verdict(better: Better, effect: f64, interval: Interval, noise: f64) -> Judgement {
    let threshold = (NOISE_FACTOR * noise).max(-(-EFFECT_MIN).ln_1p());
    let is_clear = interval.low > 0.0 || interval.high < 0.0;
    let is_worse = match better {
        Better::Higher => effect < 0.0,
        Better::Lower => effect > 0.0,
    };
    let verdict = match (effect.abs() > threshold, is_clear) {
        (true, true) if is_worse => Verdict::Regression,
        (true, true) => Verdict::Improvement,
        (true, false) => Verdict::Inconclusive,
        (false, _) if threshold > THRESHOLD_MAX.ln_1p() => Verdict::Inconclusive,
        (false, _) => Verdict::Pass,
    };
    let share = |logarithm: f64| logarithm.exp_m1();
    Judgement {
        effect: share(effect),
        interval: Interval {
            low: share(interval.low),
            high: share(interval.high),
        },
        noise: share(noise),
        threshold: match better {
            Better::Higher => -share(-threshold),
            Better::Lower => share(threshold),
        },
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(baseline: f64, candidates: [f64; 5]) -> Vec<Pair> {
        candidates
            .map(|candidate| Pair {
                baseline,
                candidate,
            })
            .to_vec()
    }

    fn judged(better: Better, same: [f64; 5], changed: [f64; 5]) -> Judgement {
        let judge = Judge::new(5).unwrap();
        judge
            .judge(better, &pairs(100.0, same), &pairs(100.0, changed))
            .unwrap()
    }

    const QUIET: [f64; 5] = [100.5, 99.5, 100.2, 99.9, 100.4];

    #[test]
    fn what_is_worse_depends_on_what_is_measured() {
        let fewer = [90.0, 89.0, 91.0, 90.5, 89.5];
        let iops = judged(Better::Higher, QUIET, fewer);
        assert_eq!(iops.verdict, Verdict::Regression);
        assert!((iops.effect + 0.1).abs() < 1e-9, "{iops:?}");
        assert!(iops.interval.low <= iops.effect && iops.effect <= iops.interval.high);
        assert_eq!(
            judged(Better::Lower, QUIET, fewer).verdict,
            Verdict::Improvement
        );
        let more = [110.0, 111.0, 109.0, 110.0, 112.0];
        assert_eq!(
            judged(Better::Lower, QUIET, more).verdict,
            Verdict::Regression
        );
        assert_eq!(
            judged(Better::Higher, QUIET, more).verdict,
            Verdict::Improvement
        );
    }

    #[test]
    fn small_noisy_and_contradicting_changes_are_no_regressions() {
        let verdict = |same, changed| judged(Better::Higher, same, changed).verdict;
        let all_a_little_less = [98.5, 98.4, 98.6, 98.5, 98.7];
        assert_eq!(verdict([100.0; 5], all_a_little_less), Verdict::Pass);
        let loud = [106.0, 95.0, 105.0, 94.0, 105.0];
        assert_eq!(verdict(loud, [90.0, 89.0, 91.0, 90.5, 89.5]), Verdict::Pass);
        assert_eq!(
            verdict(QUIET, [90.0, 89.0, 91.0, 115.0, 114.0]),
            Verdict::Inconclusive
        );
        let deafening = [150.0, 60.0, 140.0, 70.0, 160.0];
        assert_eq!(verdict(deafening, QUIET), Verdict::Inconclusive);
    }

    /// A share of a loss is never above 1, however much noise there is.
    #[test]
    fn a_loss_of_nearly_all_is_found_in_much_noise() {
        let loud = [150.0, 70.0, 140.0, 70.0, 140.0];
        let nearly_nothing = [1.0, 1.5, 0.8, 1.2, 0.7];
        let judged = judged(Better::Higher, loud, nearly_nothing);
        assert_eq!(judged.verdict, Verdict::Regression, "{judged:?}");
        assert!(judged.noise > 0.4 && judged.threshold < 1.0, "{judged:?}");
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let judge = Judge::new(5).unwrap();
        let good = pairs(100.0, QUIET);
        let refused = |same: &[Pair], changed: &[Pair]| {
            judge.judge(Better::Higher, same, changed).unwrap_err()
        };
        assert_eq!(refused(&good[..2], &good), EvidenceError::Few(2));
        let count = EvidenceError::Count {
            found: 4,
            expected: 5,
        };
        assert_eq!(refused(&good, &good[..4]), count);
        for value in [0.0, -1.0, f64::INFINITY] {
            let bad = pairs(100.0, [100.0, value, 100.0, 100.0, 100.0]);
            assert_eq!(refused(&bad, &good), EvidenceError::Value(value));
            assert_eq!(refused(&good, &bad), EvidenceError::Value(value));
        }
        assert_eq!(Judge::new(2).unwrap_err(), EvidenceError::Few(2));
        assert_eq!(judge.rounds(), 5);
    }
}
