//! What a gate would have missed: the chance that it finds a change of some size on a machine so noisy, by simulation.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Normal};
use serde::Serialize;

use super::judge::{Better, Judge, Pair, Verdict};

/// Changes for the worse whose chances are told.
const EFFECTS: [f64; 3] = [0.03, 0.1, 0.3];
/// Gates of which one chance is drawn. It is off by up to 0.03.
const TRIALS: u32 = 1000;
/// An effect counts as caught from this chance on.
const CHANCE_CAUGHT: f64 = 0.8;
/// Larger ones are not looked for: they come near to nothing being left.
const EFFECT_MAX: f64 = 0.8;
/// Halvings of what lies between effects that are caught and those that are not.
const HALVINGS: u32 = 7;
const SEED: u64 = 0x6761_7465;

/// The chance of finding one change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chance {
    /// The change for the worse, as a share of the baseline's value.
    pub effect: f64,
    /// How often it would be a regression, as a share of 1.
    pub found: f64,
}

/// What could have been seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Power {
    /// The smallest change for the worse that is found 8 times in 10; none where it is above 80 %.
    pub caught_from: Option<f64>,
    /// Chances of changes by 3, 10 and 30 %.
    pub chances: Vec<Chance>,
}

impl Power {
    /// Simulates gates like `judge`, with as many pairs of A/A as of A/B, whose changes are normally distributed with the
    /// standard deviation `noise`.
    pub fn simulate(judge: &Judge, better: Better, noise: f64) -> Self {
        let found = |effect| chance(judge, better, noise, effect);
        let chances = EFFECTS.map(|effect| Chance {
            effect,
            found: found(effect),
        });
        let (mut missed, mut caught) = (0.0, EFFECT_MAX);
        let is_caught = |effect| found(effect) >= CHANCE_CAUGHT;
        let caught_from = is_caught(caught).then(|| {
            for _ in 0..HALVINGS {
                let between = (missed + caught) / 2.0;
                if is_caught(between) {
                    caught = between;
                } else {
                    missed = between;
                }
            }
            caught
        });
        Self {
            caught_from,
            chances: chances.to_vec(),
        }
    }
}

/// How many of [`TRIALS`] gates find `effect`, as a share of 1.
fn chance(judge: &Judge, better: Better, noise: f64, effect: f64) -> f64 {
    // What is not a noise has no distribution: then nothing is found.
    let Ok(normal) = Normal::new(0.0, noise.ln_1p()) else {
        return 0.0;
    };
    let mut random = SmallRng::seed_from_u64(SEED);
    let slower = match better {
        Better::Higher => 1.0 - effect,
        Better::Lower => 1.0 + effect,
    };
    let mut pairs = |changed: f64| -> Vec<Pair> {
        let pair = |_| Pair {
            baseline: 1.0,
            candidate: changed * normal.sample(&mut random).exp(),
        };
        (0..judge.rounds()).map(pair).collect()
    };
    let found = (0..TRIALS).filter(|_| {
        let (same, changed) = (pairs(1.0), pairs(slower));
        let judged = judge.judge(better, &same, &changed);
        judged.is_ok_and(|it| it.verdict == Verdict::Regression)
    });
    found.count() as f64 / f64::from(TRIALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn power(noise: f64) -> Power {
        Power::simulate(&Judge::new(5).unwrap(), Better::Higher, noise)
    }

    fn found(power: &Power) -> Vec<f64> {
        power.chances.iter().map(|chance| chance.found).collect()
    }

    #[test]
    fn a_quiet_machine_sees_what_a_loud_one_misses() {
        let quiet = power(0.005);
        assert!(
            found(&quiet)[0] > 0.8 && found(&quiet)[1] == 1.0,
            "{quiet:?}"
        );
        let loud = power(0.08);
        assert!(found(&loud)[0] < 0.05 && found(&loud)[1] < 0.3, "{loud:?}");
        assert!(found(&loud)[2] > 0.5, "{loud:?}");
        let (quiet, loud) = (quiet.caught_from.unwrap(), loud.caught_from.unwrap());
        assert!(0.02 < quiet && quiet < 0.04, "{quiet}");
        assert!(0.2 < loud && loud < 0.5, "{loud}");
    }

    #[test]
    fn without_noise_all_above_the_smallest_that_counts_is_found() {
        let power = power(0.0);
        assert_eq!(found(&power), [1.0; 3]);
        let from = power.caught_from.unwrap();
        assert!((0.02..0.03).contains(&from), "{from}");
    }

    #[test]
    fn a_machine_that_is_all_noise_sees_nothing() {
        assert_eq!(power(3.0).caught_from, None);
        assert_eq!(power(f64::NAN).caught_from, None);
    }
}
