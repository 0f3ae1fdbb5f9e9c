//! The runs that the repository has: all can be read, say what they always said, and are what its tables say.

use std::fs;
use std::path::{Path, PathBuf};

use pollux_bench::compare::Comparison;
use pollux_bench::report::{self, Recorded, Run};
use serde_json::Value;

/// Files with kept tables.
const KEEPERS: [&str; 2] = ["README.md", "results/README.md"];
/// As far as a number that went through text may be off.
const SLACK: f64 = 1e-9;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the workspace is there")
}

fn runs() -> Vec<Run> {
    Run::read_all(&[root().join("results")]).expect("recorded runs")
}

#[test]
fn kept_tables_agree_with_the_recorded_runs() {
    for name in KEEPERS {
        let path = root().join(name);
        let text = fs::read_to_string(&path).expect(name);
        let updated = report::update(&path, &text).unwrap_or_else(|e| panic!("{e}"));
        assert!(
            updated.lines().any(|line| line.starts_with("| ")),
            "{name} keeps no table"
        );
        if updated != text {
            let differs = |(is, was): &(&str, &str)| is != was;
            let first = updated.lines().zip(text.lines()).find(differs);
            let mend = format!(
                "cargo run -p pollux -- bench report --update {}",
                KEEPERS.join(" ")
            );
            panic!(
                "{name} does not agree with the recorded runs: (recorded, written) = {first:?}; run `{mend}`"
            );
        }
    }
}

/// A ratio as schema 2 (`over`) or 1 (`over_qemu`, `over_rublk`) wrote it.
fn stored_ratio<'a>(row: &'a Value, peer: &str) -> &'a Value {
    match &row["over"] {
        Value::Null => &row[format!("over_{peer}")],
        over => &over[peer],
    }
}

/// Holds the medians and ratios that are drawn anew against those of the file. Returns how many ratios there were.
fn compare_summaries(path: &Path, comparison: &Comparison, stored: &[Value]) -> usize {
    let near = |drawn: f64, stored: &Value, what: &str| {
        let stored = stored.as_f64().unwrap_or(f64::NAN);
        let is_near = (drawn - stored).abs() <= SLACK * stored.abs();
        assert!(
            is_near,
            "{}: {what}: {drawn} is not {stored}",
            path.display()
        );
    };
    assert_eq!(comparison.summary.len(), stored.len(), "{}", path.display());
    let mut ratios = 0;
    for (row, stored) in comparison.summary.iter().zip(stored) {
        assert_eq!(stored["server"], row.server.to_string());
        assert_eq!(stored["iodepth"], row.iodepth);
        near(row.iops, &stored["iops"], "IOPS");
        near(row.p50_ns, &stored["p50_ns"], "p50");
        near(row.p99_ns, &stored["p99_ns"], "p99");
        assert_eq!(
            stored["interrupts_per_request"].is_null(),
            row.interrupts_per_request.is_none()
        );
        for (peer, ratio) in &row.over {
            let stored = stored_ratio(stored, peer);
            near(ratio.of_medians, &stored["of_medians"], "ratio");
            near(ratio.min, &stored["min"], "lowest ratio");
            near(ratio.max, &stored["max"], "highest ratio");
            ratios += 1;
        }
    }
    ratios
}

#[test]
fn what_is_drawn_anew_is_what_was_stored() {
    let mut ratios = 0;
    let mut schemas = Vec::new();
    for run in runs() {
        let Recorded::Comparison(comparison) = &run.recorded else {
            continue;
        };
        let text = fs::read_to_string(&run.path).expect("read before");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let stored = value["summary"].as_array().expect("a summary");
        ratios += compare_summaries(&run.path, comparison, stored);
        schemas.push(value["schema"].as_u64().expect("a schema"));
    }
    assert!(ratios > 50, "only {ratios} ratios compared");
    assert!(schemas.contains(&1) && schemas.contains(&2), "{schemas:?}");
}

#[test]
fn rings_are_drawn_whether_or_not_the_log_was_measured() {
    let report = report::report(&runs());
    let rings = report
        .sections
        .iter()
        .filter(|it| it.source.ends_with("ring.json"));
    let unlogged = rings.map(|ring| {
        assert!(ring.figures.len() > 2, "{}", ring.source);
        ring.summary.rows[0].last().expect("a cell") != "-"
    });
    assert_eq!(unlogged.collect::<Vec<_>>(), [false, true]);
}
