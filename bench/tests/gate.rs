//! The gate on simulated machines: quiet and loud ones, with outliers, and with a speed that drifts by a factor.

use pollux_bench::gate::{Better, Judge, Pair, Verdict};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal, StudentT};

const ROUNDS: usize = 5;

/// How one measurement comes out beside the true value.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Normal,
    /// Student's t with 3 degrees of freedom: now and then far out. As wide as the normal one, by its variance.
    HeavyTailed,
}

/// A machine that measures.
struct Machine {
    random: SmallRng,
    shape: Shape,
    /// Standard deviation of one value.
    noise: f64,
    /// How many times as fast it may be in one round as in another.
    drift: f64,
}

impl Machine {
    fn value(&mut self) -> f64 {
        let deviation: f64 = match self.shape {
            Shape::Normal => StandardNormal.sample(&mut self.random),
            Shape::HeavyTailed => {
                let student = StudentT::new(3.0).expect("a distribution");
                student.sample(&mut self.random) / 3f64.sqrt()
            }
        };
        (self.noise * deviation).exp()
    }

    /// Pairs of which the second is `change` times the first. Both of a pair have the speed of their round.
    fn pairs(&mut self, change: f64) -> Vec<Pair> {
        let pair = |_| {
            let speed = self.drift.powf(self.random.random_range(0.0..1.0));
            Pair {
                baseline: 1000.0 * speed * self.value(),
                candidate: 1000.0 * speed * change * self.value(),
            }
        };
        (0..ROUNDS).map(pair).collect()
    }
}

/// The share of `seeds` gates that end in `wanted`.
fn share(
    seeds: u64,
    wanted: Verdict,
    better: Better,
    change: f64,
    machine: (Shape, f64, f64),
) -> f64 {
    let judge = Judge::new(ROUNDS).expect("rounds enough");
    let (shape, noise, drift) = machine;
    let is_wanted = |seed: &u64| {
        let random = SmallRng::seed_from_u64(*seed);
        let mut machine = Machine {
            random,
            shape,
            noise,
            drift,
        };
        let (same, changed) = (machine.pairs(1.0), machine.pairs(change));
        judge
            .judge(better, &same, &changed)
            .expect("values above 0")
            .verdict
            == wanted
    };
    (0..seeds).filter(is_wanted).count() as f64 / seeds as f64
}

#[test]
fn a_tenth_less_is_found_at_one_percent_of_noise() {
    for shape in [Shape::Normal, Shape::HeavyTailed] {
        for drift in [1.0, 2.0] {
            for (better, change) in [(Better::Higher, 0.9), (Better::Lower, 1.1)] {
                let found = share(
                    1000,
                    Verdict::Regression,
                    better,
                    change,
                    (shape, 0.01, drift),
                );
                assert!(found >= 0.95, "{shape:?}, {drift}, {better:?}: {found}");
                let found = share(
                    1000,
                    Verdict::Improvement,
                    better,
                    1.0 / change,
                    (shape, 0.01, drift),
                );
                assert!(found >= 0.95, "{shape:?}, {drift}, {better:?}: {found}");
            }
        }
    }
}

#[test]
fn the_same_twice_is_no_regression() {
    for shape in [Shape::Normal, Shape::HeavyTailed] {
        for noise in [0.0, 0.002, 0.01, 0.05] {
            for better in [Better::Higher, Better::Lower] {
                let machine = (shape, noise, 2.0);
                let alarms = share(4000, Verdict::Regression, better, 1.0, machine);
                assert!(alarms <= 0.01, "{shape:?}, {noise}, {better:?}: {alarms}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Which unit a value has, and how fast the machine is in one round, changes nothing.
    #[test]
    fn units_and_drift_do_not_matter(
        seed in any::<u64>(),
        unit in 1e-6..1e9f64,
        speeds in prop::array::uniform5(0.1..10.0f64),
        change in 0.5..2.0f64,
    ) {
        let judge = Judge::new(ROUNDS).expect("rounds enough");
        let random = SmallRng::seed_from_u64(seed);
        let mut machine = Machine { random, shape: Shape::Normal, noise: 0.02, drift: 1.0 };
        let (same, changed) = (machine.pairs(1.0), machine.pairs(change));
        let moved = |pairs: &[Pair]| -> Vec<Pair> {
            let of = |(pair, speed): (&Pair, f64)| Pair {
                baseline: unit * speed * pair.baseline,
                candidate: unit * speed * pair.candidate,
            };
            pairs.iter().zip(speeds).map(of).collect()
        };
        let plain = judge.judge(Better::Higher, &same, &changed).expect("values above 0");
        let other = judge.judge(Better::Higher, &moved(&same), &moved(&changed)).expect("values above 0");
        prop_assert!((plain.effect - other.effect).abs() < 1e-9);
        prop_assert!((plain.noise - other.noise).abs() < 1e-9);
    }

    /// Whatever the values, a verdict says what its figures say.
    #[test]
    fn a_verdict_follows_from_its_figures(
        same in prop::array::uniform5((0.1..10.0f64, 0.1..10.0f64)),
        changed in prop::array::uniform5((0.1..10.0f64, 0.1..10.0f64)),
    ) {
        let judge = Judge::new(ROUNDS).expect("rounds enough");
        let pairs = |values: [(f64, f64); 5]| values.map(|(baseline, candidate)| Pair { baseline, candidate });
        let (same, changed) = (pairs(same), pairs(changed));
        let it = judge.judge(Better::Higher, &same, &changed).expect("values above 0");
        prop_assert!(it.interval.low <= it.effect && it.effect <= it.interval.high);
        let three_times = 1.0 - (-3.0 * it.noise.ln_1p()).exp();
        prop_assert!(it.threshold > 0.0199 && it.threshold > three_times - 1e-9);
        match it.verdict {
            Verdict::Regression => prop_assert!(it.effect < -it.threshold && it.interval.high < 0.0),
            Verdict::Improvement => prop_assert!(it.effect > it.threshold && it.interval.low > 0.0),
            Verdict::Pass => prop_assert!(it.effect >= -it.threshold - 1e-9),
            Verdict::Inconclusive => {}
        }
    }
}
