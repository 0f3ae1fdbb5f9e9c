//! What a gate found out, from the points of a comparison.

use serde::Serialize;

use super::judge::{Better, EvidenceError, Judge, Judgement, Pair, Verdict};
use super::power::Power;
use crate::compare::{Comparison, Point};
use crate::server::Variant;
use crate::statistics::median;

/// Grows when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;
/// What the three servers of a gate are called, in the order of a round: neighbours make the pairs.
const LABELS: [&str; 3] = ["baseline", "again", "candidate"];

/// Why a comparison is no gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The servers are not those of [`servers`].
    #[error("gate: {0} servers instead of {expected}; compare those that a gate names", expected = LABELS.len())]
    Servers(usize),
    /// What was measured at some depth.
    #[error("{error} (QD {iodepth}, {measure})")]
    Evidence {
        /// Requests in flight.
        iodepth: u32,
        /// What was measured.
        measure: &'static str,
        /// What is wrong with it.
        error: EvidenceError,
    },
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Requests a second.
    Iops,
    /// Median latency.
    P50,
    /// 99th percentile of the latency.
    P99,
}

/// The judgement of one measure at one depth.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Requests in flight.
    pub iodepth: u32,
    /// What was measured.
    pub measure: Measure,
    /// Which way it is good.
    pub better: Better,
    /// Median of the baseline's rounds, IOPS or ns.
    pub baseline: f64,
    /// Median of the candidate's rounds, IOPS or ns.
    pub candidate: f64,
    /// What follows from it.
    pub judgement: Judgement,
    /// What could have been seen.
    pub power: Power,
}

/// All findings, and what they are drawn from.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    /// Version of this format.
    pub schema: u32,
    /// What the baseline was named.
    pub baseline: String,
    /// What the candidate was named.
    pub candidate: String,
    /// The worst of the findings.
    pub verdict: Verdict,
    /// One a depth and measure.
    pub findings: Vec<Finding>,
    /// Every value of every round, and the machine.
    pub comparison: Comparison,
}

/// The servers of a gate, as `--servers` of a comparison takes them: the baseline twice, which tells the noise, and the
/// candidate. `options` are those of `pollux serve` for all of them, as after `pollux:`.
///
/// # Errors
/// An option that a server cannot have.
pub fn servers(
    baseline: &str,
    candidate: &str,
    options: Option<&str>,
) -> Result<Vec<Variant>, String> {
    let programs = [baseline, baseline, candidate];
    let options = options.map_or(String::new(), |options| format!(":{options}"));
    let server =
        |(label, program)| format!("pollux:label={label}:program={program}{options}").parse();
    LABELS.into_iter().zip(programs).map(server).collect()
}

impl Measure {
    const ALL: [Self; 3] = [Self::Iops, Self::P50, Self::P99];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iops => "IOPS",
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }

    fn better(self) -> Better {
        match self {
            Self::Iops => Better::Higher,
            Self::P50 | Self::P99 => Better::Lower,
        }
    }

    fn of(self, point: &Point) -> f64 {
        let latency = &point.load.latency_ns;
        match self {
            Self::Iops => point.load.iops,
            Self::P50 => latency.p50 as f64,
            Self::P99 => latency.p99 as f64,
        }
    }
}

impl Gate {
    /// Judges a comparison of [`servers`].
    ///
    /// # Errors
    /// Other servers, too few rounds, or values that cannot be judged.
    pub fn new(baseline: &str, candidate: &str, comparison: Comparison) -> Result<Self, GateError> {
        let found = comparison.settings.servers.len();
        if found != LABELS.len() {
            return Err(GateError::Servers(found));
        }
        let mut findings = Vec::new();
        for &iodepth in &comparison.settings.iodepths {
            for measure in Measure::ALL {
                let finding = Finding::new(&comparison, iodepth, measure);
                findings.push(finding.map_err(|error| GateError::Evidence {
                    iodepth,
                    measure: measure.name(),
                    error,
                })?);
            }
        }
        Ok(Self {
            schema: SCHEMA,
            baseline: baseline.to_owned(),
            candidate: candidate.to_owned(),
            verdict: worst(&findings),
            findings,
            comparison,
        })
    }
}

impl Finding {
    fn new(comparison: &Comparison, iodepth: u32, measure: Measure) -> Result<Self, EvidenceError> {
        // By the place in a round, in which all servers follow each other.
        let values = |place: usize| -> Vec<f64> {
            let server = comparison.settings.servers.get(place);
            let points = comparison.points.iter();
            let own =
                points.filter(|point| Some(&point.server) == server && point.iodepth == iodepth);
            own.map(|point| measure.of(point)).collect()
        };
        let [baseline, again, candidate] = [values(0), values(1), values(2)];
        let pairs = |one: &[f64], other: &[f64]| -> Vec<Pair> {
            let pair = |(&baseline, &candidate)| Pair {
                baseline,
                candidate,
            };
            one.iter().zip(other).map(pair).collect()
        };
        let (same, changed) = (pairs(&baseline, &again), pairs(&again, &candidate));
        let judge = Judge::new(changed.len())?;
        let better = measure.better();
        let judgement = judge.judge(better, &same, &changed)?;
        Ok(Self {
            iodepth,
            measure,
            better,
            baseline: median(again).unwrap_or(f64::NAN),
            candidate: median(candidate).unwrap_or(f64::NAN),
            judgement,
            power: Power::simulate(&judge, better, judgement.noise),
        })
    }
}

/// A regression before anything that is not known, and that before what is good.
fn worst(findings: &[Finding]) -> Verdict {
    let has = |verdict| findings.iter().any(|it| it.judgement.verdict == verdict);
    let order = [
        Verdict::Regression,
        Verdict::Inconclusive,
        Verdict::Improvement,
    ];
    order
        .into_iter()
        .find(|verdict| has(*verdict))
        .unwrap_or(Verdict::Pass)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::compare::Ending;
    use crate::compare::result::tests::{point, with_points};

    /// Five rounds of a machine whose speed drifts, in which the candidate has `share` of the baseline's IOPS.
    pub(in crate::gate) fn gate(share: f64) -> Result<Gate, GateError> {
        let servers = servers("/a", "/b", None).unwrap();
        let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let mut points = Vec::new();
        for (round, speed) in (1..).zip([1.0, 1.7, 0.8, 1.2, 2.0]) {
            let small = 1.0 + 0.002 * f64::from(round % 3);
            for (name, factor) in names.iter().zip([1.0, small, share]) {
                let iops = 10_000.0 * speed * factor;
                points.push(point(round, name, iops, (1e9 / iops).min(1e12) as u64));
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Gate::new("a", "b", with_points(&names, points, Ending::Complete))
    }

    #[test]
    fn a_slower_candidate_is_a_regression_of_all_that_is_measured() {
        let gate = gate(0.9).unwrap();
        assert_eq!(gate.verdict, Verdict::Regression);
        let verdicts: Vec<Verdict> = gate
            .findings
            .iter()
            .map(|it| it.judgement.verdict)
            .collect();
        assert_eq!(verdicts, [Verdict::Regression; 3]);
        assert!((gate.findings[0].judgement.effect + 0.1).abs() < 0.01);
        assert!(gate.findings[1].judgement.effect > 0.1);
        let json = serde_json::to_value(&gate).unwrap();
        assert_eq!(
            (&json["schema"], &json["verdict"]),
            (&1.into(), &"regression".into())
        );
        assert_eq!(json["findings"][0]["measure"], "iops");
        assert!(json["comparison"]["points"][14].is_object());
    }

    #[test]
    fn the_same_passes_and_a_faster_one_is_an_improvement() {
        assert_eq!(gate(1.0).unwrap().verdict, Verdict::Pass);
        assert_eq!(gate(1.2).unwrap().verdict, Verdict::Improvement);
    }

    #[test]
    fn what_cannot_be_judged_is_named() {
        let other = crate::compare::result::tests::comparison(Ending::Complete);
        let error = Gate::new("a", "b", other).unwrap_err().to_string();
        assert!(error.contains("2 servers instead of 3"), "{error}");
        let error = gate(0.0).unwrap_err().to_string();
        assert!(
            error.contains("a value of 0 cannot be compared") && error.contains("QD 1, IOPS"),
            "{error}"
        );
        let error = servers("/a", "/b", Some("name=x")).unwrap_err();
        assert!(error.contains("sets --name itself"), "{error}");
    }
}
