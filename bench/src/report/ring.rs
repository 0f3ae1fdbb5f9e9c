//! The rings beside virtio-queue as a section of the report.

use std::path::Path;

use super::comparison::programs;
use super::model::{Axis, Bar, Bars, Column, Drawing, Figure, Group, Scale, Section, Table, Unit};
use super::number::significant;
use crate::ring::{RingComparison, RingRow};
use crate::statistics::median;

/// Converts what was read from `path`.
pub(super) fn section(path: &Path, ring: &RingComparison) -> Section {
    Section {
        title: "Device side of a virtqueue, 4 KiB reads".to_owned(),
        source: path.display().to_string(),
        facts: vec![
            ("Machine".to_owned(), ring.environment.line()),
            ("Programs".to_owned(), programs(&ring.environment)),
        ],
        notes: vec![
            "pollux, virtio-queue: take, walk, read the header, write the status, return".to_owned(),
            "whole pass: a worker's, over a null disk, with counters, the in-flight log of a split ring and the \
             latency of every request, or of those of one pass in 64"
                .to_owned(),
        ],
        figures: figures(ring),
        summary: table(ring),
        details: Vec::new(),
    }
}

/// How a row's ring and chains are laid out.
fn layout(row: &RingRow) -> String {
    let chains = if row.indirect { "indirect" } else { "direct" };
    let order = if row.in_order { ", in order" } else { "" };
    format!("{}, {chains}{order}", row.format)
}

/// How many requests come together, and of what.
fn load(row: &RingRow) -> String {
    match row.segments {
        1 => format!("batch {}", row.batch),
        more => format!("batch {}, {more} data segments", row.batch),
    }
}

/// One chart for rows that have the same load, as times of different loads are far apart.
fn figures(ring: &RingComparison) -> Vec<Figure> {
    let mut loads: Vec<String> = Vec::new();
    for load in ring.rows.iter().map(load) {
        if !loads.contains(&load) {
            loads.push(load);
        }
    }
    loads.iter().map(|load| figure(ring, load)).collect()
}

fn figure(ring: &RingComparison, of: &str) -> Figure {
    let bar = |colour, name: &str, rounds: &[f64]| {
        let value = median(rounds.to_vec())?;
        let lowest = rounds.iter().copied().reduce(f64::min);
        Some(Bar {
            name: name.to_owned(),
            colour,
            value: Some(value),
            range: lowest.zip(rounds.iter().copied().reduce(f64::max)),
            text: format!("{value:.1} ns"),
        })
    };
    let group = |row: &RingRow| {
        let theirs = row.virtio_queue_ns.as_deref().unwrap_or_default();
        let bars = [
            bar(0, "pollux", &row.pollux_ns),
            bar(1, "virtio-queue", theirs),
            bar(2, "whole pass of a worker", &row.pass_ns),
        ];
        Group {
            title: layout(row),
            bars: bars.into_iter().flatten().collect(),
        }
    };
    let rows = ring.rows.iter().filter(|row| load(row) == of);
    Figure {
        title: format!("Time of a request, {of}"),
        note: "Median of the rounds; the thin line goes from the lowest to the highest. Shorter is better.".to_owned(),
        drawing: Drawing::Bars(Bars {
            axis: Axis::new("a request", Scale::Linear, Unit::Nanoseconds),
            reference: None,
            groups: rows.map(group).collect(),
        }),
    }
}

fn table(ring: &RingComparison) -> Table {
    let columns = vec![
        Column::words("ring"),
        Column::words("requests"),
        Column::numbers("pollux"),
        Column::numbers("virtio-queue"),
        Column::numbers("ratio"),
        Column::numbers("whole pass"),
        Column::numbers("1 in 64 timed"),
        Column::numbers("and no log"),
    ];
    let ns =
        |rounds: &[f64]| median(rounds.to_vec()).map_or("-".to_owned(), |it| format!("{it:.1}"));
    let cells = |row: &RingRow| {
        vec![
            layout(row),
            load(row),
            ns(&row.pollux_ns),
            ns(row.virtio_queue_ns.as_deref().unwrap_or_default()),
            row.ratio().map_or("-".to_owned(), significant),
            ns(&row.pass_ns),
            ns(&row.pass_sampled_ns),
            ns(&row.pass_unlogged_ns),
        ]
    };
    Table {
        title: "ns a request, medians".to_owned(),
        columns,
        rows: ring.rows.iter().map(cells).collect(),
    }
}
