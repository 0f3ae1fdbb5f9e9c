//! A run of `pollux bench run` as a section of the report.

mod figures;

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::comparison::programs;
use super::model::{Column, Section, Table, Unit};
use super::number::{short, significant};
use crate::compare::Ending;
use crate::run::{Point, PointLoad, Row, Run};
use crate::scenario::Scenario;

/// Converts what was read from `path`.
pub(super) fn section(path: &Path, run: &Run) -> Section {
    let Scenario {
        name,
        transport,
        backend,
        rw,
        bs,
        ..
    } = &run.scenario;
    Section {
        title: format!("{transport}: {bs} {rw}, {backend} ({name})"),
        source: path.display().to_string(),
        facts: facts(run),
        notes: notes(run),
        figures: figures::all(run),
        summary: summary(run),
        details: Vec::new(),
    }
}

fn facts(run: &Run) -> Vec<(String, String)> {
    let Scenario {
        ring,
        ramp_time_ms,
        runtime_ms,
        rounds,
        ..
    } = &run.scenario;
    let taken = UNIX_EPOCH + Duration::from_secs(run.started_unix_s);
    let finished = run.ping_pong.len();
    let build = &run.environment.build;
    let revision = build.git_revision.as_deref().unwrap_or("unknown");
    let changed = match build.dirty {
        Some(true) => ", changed since",
        _ => "",
    };
    let features: Vec<&str> = [
        (ring.indirect, "indirect"),
        (ring.event_idx, "event_idx"),
        (ring.in_order, "in_order"),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect();
    let facts = [
        (
            "Taken",
            humantime::format_rfc3339_seconds(taken).to_string(),
        ),
        ("Machine", run.environment.line()),
        ("Programs", programs(&run.environment)),
        ("Revision", format!("{revision}{changed}")),
        (
            "Rounds",
            format!(
                "{finished} of {rounds}, {runtime_ms} ms a point after {ramp_time_ms} ms of load"
            ),
        ),
        (
            "CPUs",
            format!(
                "worker on {}, client on {}",
                run.cpus.worker, run.cpus.client
            ),
        ),
        (
            "Ring",
            format!(
                "{}, {} entries, {}",
                ring.format,
                ring.size,
                features.join(", ")
            ),
        ),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

fn notes(run: &Run) -> Vec<String> {
    let mut notes = Vec::new();
    match &run.ending {
        Ending::Complete => {}
        Ending::Stopped => notes.push("stopped on request".to_owned()),
        Ending::Failed(reason) => notes.push(format!("then failed: {reason}")),
    }
    let findings = run.preflight.iter();
    notes.extend(findings.map(|finding| format!("not clean: {}", finding.text)));
    notes.push(
        "latency: of an open load from when a request was to begin; round trips: p50 as a multiple of a cache line's \
         way to the other CPU and back, measured in the same round"
            .to_owned(),
    );
    notes
}

/// The points of the load of `row`, in the order of the rounds.
fn points_of<'a>(run: &'a Run, row: &'a Row) -> impl Iterator<Item = &'a Point> + Clone {
    let points = run.points.iter();
    points.filter(move |point| point.load.is_like(&row.load))
}

/// Only one request at a time is a round trip.
fn round_trips(row: &Row) -> String {
    match row.load {
        PointLoad::Closed { iodepth: 1 } => significant(row.p50_in_round_trips),
        _ => "-".to_owned(),
    }
}

fn summary(run: &Run) -> Table {
    let columns = [
        "IOPS",
        "best round",
        "p50",
        "p99",
        "p99.9",
        "in round trips",
        "worker CPU",
        "client CPU",
        "IOPS/core",
    ];
    let numbers = columns.map(Column::numbers);
    let ns = |value: f64| short(value, Unit::Nanoseconds);
    let count = |value: f64| short(value, Unit::Count);
    let cells = |row: &Row| {
        vec![
            row.load.to_string(),
            count(row.iops),
            count(row.iops_best),
            ns(row.p50_ns),
            ns(row.p99_ns),
            ns(row.p999_ns),
            round_trips(row),
            ns(row.worker_cpu_ns_per_request),
            ns(row.client_cpu_ns_per_request),
            count(1e9 / row.worker_cpu_ns_per_request),
        ]
    };
    Table {
        title: "Medians over the rounds; CPU time a request".to_owned(),
        columns: [Column::words("load")].into_iter().chain(numbers).collect(),
        rows: run.summary.iter().map(cells).collect(),
    }
}
