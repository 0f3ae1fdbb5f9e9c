//! A gate as a table for people.

use std::fmt;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::finding::{Finding, Gate, Measure};
use crate::compare::Ending;

impl fmt::Display for Gate {
    /// Where it ran, what was found, what could have been, and the verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comparison = &self.comparison;
        writeln!(f, "{}", comparison.environment.line())?;
        writeln!(
            f,
            "baseline {}, candidate {}",
            self.baseline, self.candidate
        )?;
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header([
            "QD",
            "measure",
            "baseline",
            "candidate",
            "effect",
            "95 % interval",
            "noise",
            "counts above",
            "verdict",
            "would catch",
            "finds 3/10/30 %",
        ]);
        for finding in &self.findings {
            table.add_row(row(finding));
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        let rounds = comparison
            .points
            .iter()
            .map(|point| point.round)
            .max()
            .unwrap_or(0);
        match &comparison.ending {
            Ending::Complete => {}
            Ending::Stopped => writeln!(
                f,
                "stopped on request: {rounds} of {} rounds",
                comparison.settings.rounds
            )?,
            Ending::Failed(reason) => writeln!(
                f,
                "{rounds} of {} rounds, then: {reason}",
                comparison.settings.rounds
            )?,
        }
        writeln!(
            f,
            "effect: median of the change in each of {rounds} rounds; noise: standard deviation of the baseline beside \
             itself; would catch: what is found 8 times in 10; finds: chance of finding a change by so much for the worse"
        )?;
        writeln!(f, "{}", self.verdict)
    }
}

fn row(finding: &Finding) -> [String; 11] {
    let judgement = &finding.judgement;
    let value = |value: f64| match finding.measure {
        Measure::Iops => format!("{value:.0}"),
        Measure::P50 | Measure::P99 => format!("{:.1} us", value / 1000.0),
    };
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let signed = |share: f64| format!("{:+.1} %", 100.0 * share);
    let chances = finding
        .power
        .chances
        .iter()
        .map(|chance| format!("{:.0}", 100.0 * chance.found));
    [
        finding.iodepth.to_string(),
        finding.measure.name().to_owned(),
        value(finding.baseline),
        value(finding.candidate),
        signed(judgement.effect),
        format!(
            "{} to {}",
            signed(judgement.interval.low),
            signed(judgement.interval.high)
        ),
        percent(judgement.noise),
        percent(judgement.threshold),
        judgement.verdict.to_string(),
        finding
            .power
            .caught_from
            .map_or("nothing".to_owned(), percent),
        format!("{} %", chances.collect::<Vec<_>>().join("/")),
    ]
}

#[cfg(test)]
mod tests {
    use crate::gate::finding::tests::gate;

    #[test]
    fn the_last_line_is_the_verdict_and_each_finding_tells_what_it_could_see() {
        let text = gate(0.9).unwrap().to_string();
        assert!(text.ends_with("\nregression\n"), "{text}");
        let row = text.lines().find(|line| line.contains("IOPS")).unwrap();
        for expected in [
            "-10.2 %",
            " to -10.0 %",
            "2.0 %",
            "regression",
            "/100/100 %",
        ] {
            assert!(row.contains(expected), "{expected}: {text}");
        }
        assert!(text.contains("baseline a, candidate b"), "{text}");
    }
}
