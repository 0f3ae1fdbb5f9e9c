//! The charts of a comparison.

use super::range;
use crate::compare::{Comparison, Row};
use crate::report::model::{
    Axis, Bar, Bars, Drawing, Figure, Group, Lines, Point, Scale, Series, Unit,
};
use crate::report::number::{interrupts, short, significant};
use crate::server::Variant;

/// Reads one percentile of a measured point, in nanoseconds.
type Percentile = fn(&crate::compare::Point) -> f64;

/// The percentiles that are stored, from the shortest latency to the longest.
pub(super) const PERCENTILES: [(&str, Percentile); 6] = [
    ("min", |it| it.load.latency_ns.min as f64),
    ("p50", |it| it.load.latency_ns.p50 as f64),
    ("p90", |it| it.load.latency_ns.p90 as f64),
    ("p99", |it| it.load.latency_ns.p99 as f64),
    ("p99.9", |it| it.load.latency_ns.p999 as f64),
    ("max", |it| it.load.latency_ns.max as f64),
];

/// Every chart that this comparison has something for.
pub(super) fn all(comparison: &Comparison) -> Vec<Figure> {
    let mut figures = vec![side_by_side(comparison)];
    if comparison.settings.iodepths.len() > 1 {
        figures.push(iops_by_depth(comparison));
    }
    figures.push(latency_by_throughput(comparison));
    let depths = &comparison.settings.iodepths;
    figures.extend(depths.iter().map(|&depth| percentiles(comparison, depth)));
    figures.extend(interrupts_by_request(comparison));
    figures.extend(
        comparison
            .settings
            .peers()
            .filter_map(|peer| ratios(comparison, peer)),
    );
    figures
}

/// One line a server, whose point at each depth `point` gives.
fn series(comparison: &Comparison, point: impl Fn(&Variant, u32) -> Option<Point>) -> Vec<Series> {
    let settings = &comparison.settings;
    let line = |(colour, server): (usize, &Variant)| Series {
        name: server.name(),
        colour,
        points: settings
            .iodepths
            .iter()
            .filter_map(|&depth| point(server, depth))
            .collect(),
    };
    settings.servers.iter().enumerate().map(line).collect()
}

/// One group a depth, with a row for each server that has figures for it.
fn groups(comparison: &Comparison, bar: impl Fn(&Row) -> Option<Bar>) -> Vec<Group> {
    let settings = &comparison.settings;
    let group = |&depth: &u32| Group {
        title: format!("QD {depth}"),
        bars: comparison
            .summary
            .iter()
            .filter(|row| row.iodepth == depth)
            .filter_map(|row| {
                let place = settings.servers.iter().position(|it| *it == row.server);
                Some(Bar {
                    colour: place.unwrap_or_default(),
                    name: row.server.name(),
                    ..bar(row)?
                })
            })
            .collect(),
    };
    settings.iodepths.iter().map(group).collect()
}

/// A row that [`groups`] gives its name and colour.
fn bar(value: Option<f64>, range: Option<(f64, f64)>, text: String) -> Bar {
    Bar {
        name: String::new(),
        colour: 0,
        value,
        range,
        text,
    }
}

fn rounds_note(comparison: &Comparison) -> &'static str {
    match comparison.summary.iter().any(|row| row.rounds > 1) {
        true => "Median of the rounds; the thin line goes from the lowest to the highest round.",
        false => "One round, so nothing tells how far it can be trusted.",
    }
}

fn side_by_side(comparison: &Comparison) -> Figure {
    let bars = Bars {
        axis: Axis::new("IOPS", Scale::Linear, Unit::Count),
        reference: None,
        groups: groups(comparison, |row| {
            let points = comparison.points_of(&row.server, row.iodepth);
            let range = range(points.map(|point| point.load.iops));
            Some(bar(Some(row.iops), range, format!("{:.0}", row.iops)))
        }),
    };
    Figure::new(
        "IOPS side by side",
        rounds_note(comparison),
        Drawing::Bars(bars),
    )
}

fn iops_by_depth(comparison: &Comparison) -> Figure {
    let depths = &comparison.settings.iodepths;
    let x = Axis {
        ticks: depths
            .iter()
            .map(|&it| (f64::from(it), it.to_string()))
            .collect(),
        ..Axis::new("QD, requests in flight", Scale::Log, Unit::Count)
    };
    let lines = Lines {
        x,
        y: Axis::new("IOPS", Scale::Linear, Unit::Count),
        series: series(comparison, |server, depth| {
            let y = comparison.median_of(server, depth, |point| point.load.iops)?;
            let points = comparison.points_of(server, depth);
            Some(Point {
                x: f64::from(depth),
                y,
                range: range(points.map(|point| point.load.iops)),
                label: format!("{}, QD {depth}: {y:.0} IOPS", server.name()),
            })
        }),
    };
    Figure::new(
        "IOPS against queue depth",
        rounds_note(comparison),
        Drawing::Lines(lines),
    )
}

fn latency_by_throughput(comparison: &Comparison) -> Figure {
    let lines = Lines {
        x: Axis::new("IOPS", Scale::Linear, Unit::Count),
        y: Axis::new("latency, p50 to p99", Scale::Log, Unit::Nanoseconds),
        series: series(comparison, |server, depth| {
            let middle = |value: Percentile| comparison.median_of(server, depth, value);
            let x = middle(|point| point.load.iops)?;
            let p50 = middle(|point| point.load.latency_ns.p50 as f64)?;
            let p99 = middle(|point| point.load.latency_ns.p99 as f64)?;
            Some(Point {
                x,
                y: p50,
                range: Some((p50, p99)),
                label: format!(
                    "{}, QD {depth}: {x:.0} IOPS, p50 {}, p99 {}",
                    server.name(),
                    short(p50, Unit::Nanoseconds),
                    short(p99, Unit::Nanoseconds)
                ),
            })
        }),
    };
    let note = "The mark is p50, the upper end of its line p99; one mark a queue depth. Lower and further right \
                is better.";
    Figure::new("Latency against throughput", note, Drawing::Lines(lines))
}

fn percentiles(comparison: &Comparison, depth: u32) -> Figure {
    let places = || {
        PERCENTILES
            .iter()
            .enumerate()
            .map(|(place, it)| (place as f64, it))
    };
    let settings = &comparison.settings;
    let line = |(colour, server): (usize, &Variant)| Series {
        name: server.name(),
        colour,
        points: places()
            .filter_map(|(x, (name, value))| {
                let y = comparison.median_of(server, depth, value)?;
                let written = short(y, Unit::Nanoseconds);
                Some(Point {
                    x,
                    y,
                    range: None,
                    label: format!("{}, {name}: {written}", server.name()),
                })
            })
            .collect(),
    };
    let lines = Lines {
        x: Axis {
            ticks: places()
                .map(|(x, (name, _))| (x, (*name).to_owned()))
                .collect(),
            ..Axis::new("percentile", Scale::Linear, Unit::Count)
        },
        y: Axis::new("latency", Scale::Log, Unit::Nanoseconds),
        series: settings.servers.iter().enumerate().map(line).collect(),
    };
    let note =
        "Medians over the rounds of each percentile that is stored; nothing is known between them.";
    Figure::new(
        format!("Latency percentiles at QD {depth}"),
        note,
        Drawing::Lines(lines),
    )
}

/// None where no server's interrupts are known.
fn interrupts_by_request(comparison: &Comparison) -> Option<Figure> {
    let known = comparison
        .summary
        .iter()
        .filter_map(|row| row.interrupts_per_request);
    known.reduce(f64::max)?;
    let groups = groups(comparison, |row| {
        let value = row.interrupts_per_request;
        let text = value.map_or("not counted".to_owned(), |_| interrupts(value));
        Some(bar(value, None, text))
    });
    let bars = Bars {
        axis: Axis::new("interrupts a request", Scale::Linear, Unit::Count),
        reference: None,
        groups,
    };
    let note = "Fewer cost the driver less. Of pollux by its own counters.";
    Some(Figure::new(
        "Interrupts a request",
        note,
        Drawing::Bars(bars),
    ))
}

/// None where nothing was measured beside `peer`.
fn ratios(comparison: &Comparison, peer: &Variant) -> Option<Figure> {
    let name = peer.name();
    let groups = groups(comparison, |row| {
        let ratio = row.over.get(&name)?;
        let text = match row.rounds > 1 {
            true => format!(
                "{} ({}-{})",
                significant(ratio.of_medians),
                significant(ratio.min),
                significant(ratio.max)
            ),
            false => significant(ratio.of_medians),
        };
        Some(bar(
            Some(ratio.of_medians),
            Some((ratio.min, ratio.max)),
            text,
        ))
    });
    groups.iter().any(|group| !group.bars.is_empty()).then(|| {
        let bars = Bars {
            axis: Axis::new("times as many IOPS", Scale::Log, Unit::Count),
            reference: Some(1.0),
            groups,
        };
        let note = "Quotient of the medians; the line goes from the lowest to the highest quotient inside of one \
                    round. Left of 1: fewer IOPS.";
        Figure::new(format!("IOPS over those of {name}"), note, Drawing::Bars(bars))
    })
}
