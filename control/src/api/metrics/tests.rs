//! The table, what people read of it, what is exposed, and what the dashboard asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::api::sample;

fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).expect(path)
}

/// The table of `control/METRICS.md`, as it is to be.
fn table_for_people() -> String {
    let mut lines = vec!["| metric | type | labels | meaning |".to_owned()];
    lines.push("|---|---|---|---|".into());
    for metric in METRICS {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels = metric.source.labels().join(", ");
        let (name, help) = (metric.name, metric.help);
        lines.push(format!("| `{name}` | {kind} | {labels} | {help} |"));
    }
    lines.join("\n")
}

/// Returns the value of every series.
fn series(text: &str) -> BTreeMap<&str, &str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').expect("a name and a value"))
        .collect()
}

fn text() -> String {
    let silent = ("d1".to_owned(), None);
    exposition(vec![("d0".to_owned(), Some(sample::device())), silent]).unwrap()
}

#[test]
fn people_read_of_all_metrics_and_no_others() {
    let page = repository("control/METRICS.md");
    let table = table_for_people();
    assert!(
        page.contains(&table),
        "control/METRICS.md is stale; its table is\n{table}"
    );
    assert_eq!(page.matches("| `pollux_").count(), METRICS.len());
}

#[test]
fn every_metric_is_exposed_with_the_labels_that_the_table_tells() {
    let text = text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let series = series(&text);
    for metric in METRICS {
        let name = match metric.kind {
            Kind::Histogram => format!("{}_bucket", metric.name),
            _ => metric.name.to_owned(),
        };
        let found = series.keys().find(|it| {
            let (found, _) = it.split_once('{').expect("labels");
            found == name
        });
        let found = found.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
        for label in metric.source.labels() {
            assert!(found.contains(&format!("{label}=\"")), "{label}: {found}");
        }
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{name}"
        );
    }
    let described = text.lines().filter(|line| line.starts_with("# HELP "));
    assert_eq!(described.count(), METRICS.len());
}

#[test]
fn values_are_those_of_the_snapshot() {
    let text = text();
    let series = series(&text);
    for (name, value) in [
        ("pollux_device_up{device=\"d0\"}", "1"),
        ("pollux_device_up{device=\"d1\"}", "0"),
        ("pollux_device_state{device=\"d0\",state=\"running\"}", "1"),
        ("pollux_device_state{device=\"d0\",state=\"broken\"}", "0"),
        ("pollux_device_resets_total{device=\"d0\"}", "2"),
        ("pollux_requests_total{device=\"d0\",queue=\"1\"}", "1000"),
        (
            "pollux_queue_state{device=\"d0\",queue=\"1\",state=\"running\"}",
            "1",
        ),
        (
            "pollux_queue_state{device=\"d0\",queue=\"1\",state=\"stuck\"}",
            "0",
        ),
        (
            "pollux_backend_errors_total{device=\"d0\",queue=\"1\",errno=\"EIO\"}",
            "3",
        ),
        (
            "pollux_worker_polls_total{device=\"d0\",queue=\"1\",outcome=\"busy\"}",
            "600",
        ),
        (
            "pollux_request_duration_seconds_count{device=\"d0\",queue=\"1\"}",
            "1000",
        ),
        (
            "pollux_request_duration_seconds_sum{device=\"d0\",queue=\"1\"}",
            "0.02",
        ),
        (
            "pollux_request_duration_seconds_bucket{le=\"+Inf\",device=\"d0\",queue=\"1\"}",
            "1000",
        ),
        (
            "pollux_request_duration_seconds_bucket{le=\"0.00001\",device=\"d0\",queue=\"1\"}",
            "600",
        ),
        (
            "pollux_request_duration_seconds_bucket{le=\"0.000025\",device=\"d0\",queue=\"1\"}",
            "900",
        ),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}\n{text}");
    }
    assert!(!text.contains("pollux_requests_total{device=\"d1\""));
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard = repository("tools/grafana/pollux.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = parsed["panels"].as_array().expect("panels");
    assert!(panels.len() > 5);
    let mut asked = BTreeSet::new();
    for panel in panels {
        let targets = panel["targets"].as_array().into_iter().flatten();
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            asked.extend(words.filter(|word| word.starts_with("pollux_")));
        }
    }
    assert!(asked.len() > 10, "{asked:?}");
    let exposed = text();
    let series = series(&exposed);
    for name in asked {
        let is_there = series.keys().any(|it| it.starts_with(&format!("{name}{{")));
        assert!(is_there, "{name} is asked for and not exposed");
    }
}
