//! The charts of a run.

use hdrhistogram::Histogram;

use super::points_of;
use crate::report::model::{
    Axis, Bar, Bars, Drawing, Figure, Group, Lines, Point, Scale, Series, Unit,
};
use crate::report::number::short;
use crate::run::{self, PointLoad, Row, Run};

/// Places of a percentile curve: as many nines as there are, evenly far apart.
const QUANTILES: [(f64, &str); 12] = [
    (0.0, "0"),
    (0.25, ""),
    (0.5, "50"),
    (0.75, ""),
    (0.9, "90"),
    (0.95, ""),
    (0.99, "99"),
    (0.995, ""),
    (0.999, "99.9"),
    (0.9995, ""),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
];

/// Every chart that this run has something for.
pub(super) fn all(run: &Run) -> Vec<Figure> {
    let mut figures = vec![side_by_side(run)];
    figures.extend(iops_by_depth(run));
    figures.push(latency_by_throughput(run));
    figures.push(percentiles(run));
    figures.push(cpu_time(run));
    figures
}

fn iodepth(row: &Row) -> Option<u32> {
    match row.load {
        PointLoad::Closed { iodepth } => Some(iodepth),
        PointLoad::Open { .. } => None,
    }
}

/// The lowest and the highest round; none of none.
fn range(run: &Run, row: &Row, value: impl Fn(&run::Point) -> f64) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = points_of(run, row).map(value).collect();
    values.sort_by(f64::total_cmp);
    Some((*values.first()?, *values.last()?))
}

fn side_by_side(run: &Run) -> Figure {
    let bar = |row: &Row| Bar {
        name: row.load.to_string(),
        colour: usize::from(iodepth(row).is_none()),
        value: Some(row.iops),
        range: range(run, row, |point| point.iops),
        text: short(row.iops, Unit::Count),
    };
    let bars = Bars {
        axis: Axis::new("IOPS", Scale::Linear, Unit::Count),
        reference: None,
        groups: vec![Group {
            title: "all loads".to_owned(),
            bars: run.summary.iter().map(bar).collect(),
        }],
    };
    Figure::new(
        "IOPS side by side",
        "Median of the rounds; the thin line goes from the lowest to the highest round.",
        Drawing::Bars(bars),
    )
}

/// None where there is one depth, or none.
fn iops_by_depth(run: &Run) -> Option<Figure> {
    let closed: Vec<(u32, &Row)> = run
        .summary
        .iter()
        .filter_map(|row| Some((iodepth(row)?, row)))
        .collect();
    if closed.len() < 2 {
        return None;
    }
    let ticks = closed
        .iter()
        .map(|(depth, _)| (f64::from(*depth), depth.to_string()));
    let points = closed.iter().map(|(depth, row)| Point {
        x: f64::from(*depth),
        y: row.iops,
        range: range(run, row, |point| point.iops),
        label: format!("QD {depth}: {:.0} IOPS", row.iops),
    });
    let lines = Lines {
        x: Axis {
            ticks: ticks.collect(),
            ..Axis::new("QD, requests in flight", Scale::Log, Unit::Count)
        },
        y: Axis::new("IOPS", Scale::Linear, Unit::Count),
        series: vec![Series {
            name: "pollux".to_owned(),
            colour: 0,
            points: points.collect(),
        }],
    };
    Some(Figure::new(
        "IOPS against queue depth",
        "Median of the rounds; the thin line goes from the lowest to the highest round.",
        Drawing::Lines(lines),
    ))
}

fn latency_by_throughput(run: &Run) -> Figure {
    let point = |row: &Row| Point {
        x: row.iops,
        y: row.p50_ns,
        range: Some((row.p50_ns, row.p99_ns)),
        label: format!(
            "{}: {:.0} IOPS, p50 {}, p99 {}",
            row.load,
            row.iops,
            short(row.p50_ns, Unit::Nanoseconds),
            short(row.p99_ns, Unit::Nanoseconds)
        ),
    };
    let kind = |colour: usize, name: &str, is_closed: bool| Series {
        name: name.to_owned(),
        colour,
        points: run
            .summary
            .iter()
            .filter(|row| iodepth(row).is_some() == is_closed)
            .map(point)
            .collect(),
    };
    let mut series = vec![kind(0, "closed loop", true), kind(1, "open loop", false)];
    series.retain(|series| !series.points.is_empty());
    let lines = Lines {
        x: Axis::new("IOPS", Scale::Linear, Unit::Count),
        y: Axis::new("latency, p50 to p99", Scale::Log, Unit::Nanoseconds),
        series,
    };
    let note = "The mark is p50, the upper end of its line p99. Lower and further right is better.";
    Figure::new("Latency against throughput", note, Drawing::Lines(lines))
}

fn percentiles(run: &Run) -> Figure {
    // Nines from 0: 90 % is at 1, 99 % at 2.
    let place = |quantile: f64| -(1.0 - quantile).log10();
    let line = |(colour, row): (usize, &Row)| {
        let latencies = latencies(run, row)?;
        let known = QUANTILES
            .iter()
            .filter(|(quantile, _)| (1.0 - quantile) * latencies.len() as f64 >= 1.0);
        let points = known.map(|&(quantile, _)| {
            let y = latencies.value_at_quantile(quantile) as f64;
            let written = short(y, Unit::Nanoseconds);
            Point {
                x: place(quantile),
                y,
                range: None,
                label: format!("{}, {} %: {written}", row.load, quantile * 100.0),
            }
        });
        Some(Series {
            name: row.load.to_string(),
            colour,
            points: points.collect(),
        })
    };
    let named = QUANTILES.iter().filter(|(_, name)| !name.is_empty());
    let lines = Lines {
        x: Axis {
            ticks: named
                .map(|&(quantile, name)| (place(quantile), name.to_owned()))
                .collect(),
            ..Axis::new("percentile", Scale::Linear, Unit::Count)
        },
        y: Axis::new("latency", Scale::Log, Unit::Nanoseconds),
        series: run.summary.iter().enumerate().filter_map(line).collect(),
    };
    Figure::new(
        "Latency percentiles",
        "All requests of all rounds, from the histograms that are stored.",
        Drawing::Lines(lines),
    )
}

/// The latencies of all rounds of one load; none where what is stored is no histogram.
fn latencies(run: &Run, row: &Row) -> Option<Histogram<u64>> {
    let mut all: Option<Histogram<u64>> = None;
    for point in points_of(run, row) {
        let one = point.latencies()?;
        match &mut all {
            Some(all) => all.add(&one).ok()?,
            None => all = Some(one),
        }
    }
    all
}

fn cpu_time(run: &Run) -> Figure {
    let bar = |name: &str, colour, value: f64, range| Bar {
        name: name.to_owned(),
        colour,
        value: Some(value),
        range,
        text: short(value, Unit::Nanoseconds),
    };
    let group = |row: &Row| Group {
        title: row.load.to_string(),
        bars: vec![
            bar(
                "worker",
                0,
                row.worker_cpu_ns_per_request,
                range(run, row, |point| point.worker_cpu_ns_per_request),
            ),
            bar(
                "client",
                1,
                row.client_cpu_ns_per_request,
                range(run, row, |point| point.client_cpu_ns_per_request),
            ),
        ],
    };
    let bars = Bars {
        axis: Axis::new("CPU time a request", Scale::Linear, Unit::Nanoseconds),
        reference: None,
        groups: run.summary.iter().map(group).collect(),
    };
    let note = "Threads that poll: what they spend while they wait is in it.";
    Figure::new("CPU time a request", note, Drawing::Bars(bars))
}
