//! The comparison as a table: medians over rounds in which every side had its turn.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use pollux_dataplane::ring::RingFeatures;
use serde::{Deserialize, Serialize};

use super::{DeviceSide, Fixture, PassSide, ReferenceSide, Shape, Side, time};
use crate::environment::Environment;
use crate::statistics;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct RingPlan {
    /// Rounds; each gives every side of every row a turn.
    pub rounds: u32,
    /// Time of one turn.
    pub turn: Duration,
}

/// One way of having requests, measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RingRow {
    /// `split` or `packed`.
    pub format: String,
    /// Whether chains lie in indirect tables.
    pub indirect: bool,
    /// Whether IN_ORDER was negotiated.
    pub in_order: bool,
    /// Requests that are made available together.
    pub batch: u16,
    /// Data segments of a request.
    pub segments: u16,
    /// Device side alone, in ns a request, by round.
    pub pollux_ns: Vec<f64>,
    /// The same of virtio-queue, which has split rings only, by round.
    pub virtio_queue_ns: Option<Vec<f64>>,
    /// A whole pass of a worker over a null disk with the latency of every request, by round.
    pub pass_ns: Vec<f64>,
    /// The same with one pass in 64 timed, by round.
    pub pass_sampled_ns: Vec<f64>,
    /// The same without the in-flight log, by round; none in files from before it was measured.
    #[serde(default)]
    pub pass_unlogged_ns: Vec<f64>,
}

/// All rows, and the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RingComparison {
    /// Where it ran.
    pub environment: Environment,
    /// What was measured.
    pub rows: Vec<RingRow>,
}

/// Measures every shape. `progress` is told of each round before it begins.
pub fn compare(plan: RingPlan, progress: impl Fn(u32)) -> RingComparison {
    let mut rows: Vec<RingRow> = shapes().into_iter().map(RingRow::new).collect();
    for round in 1..=plan.rounds {
        progress(round);
        for (shape, row) in shapes().into_iter().zip(&mut rows) {
            row.measure(shape, plan.turn);
        }
    }
    RingComparison {
        environment: Environment::look(),
        rows,
    }
}

fn shapes() -> Vec<Shape> {
    let event_idx = RingFeatures::EVENT_IDX;
    let indirect = event_idx | RingFeatures::INDIRECT_DESC;
    let packed = RingFeatures::RING_PACKED;
    let in_order = RingFeatures::IN_ORDER;
    let mut shapes = Vec::new();
    for features in [event_idx, indirect, event_idx | packed, indirect | packed] {
        for batch in [1, 8, 64] {
            let segments = 1;
            shapes.push(Shape {
                features,
                batch,
                segments,
            });
        }
    }
    let (batch, segments) = (64, 1);
    for features in [indirect | in_order, indirect | packed | in_order] {
        shapes.push(Shape {
            features,
            batch,
            segments,
        });
    }
    let (batch, segments) = (8, 32);
    for features in [indirect, indirect | packed] {
        shapes.push(Shape {
            features,
            batch,
            segments,
        });
    }
    shapes
}

impl RingRow {
    fn new(shape: Shape) -> Self {
        let has = |feature| shape.features.contains(feature);
        let packed = has(RingFeatures::RING_PACKED);
        let in_order = has(RingFeatures::IN_ORDER);
        Self {
            format: if packed { "packed" } else { "split" }.to_owned(),
            indirect: has(RingFeatures::INDIRECT_DESC),
            in_order,
            batch: shape.batch,
            segments: shape.segments,
            pollux_ns: Vec::new(),
            virtio_queue_ns: (!packed && !in_order).then(Vec::new),
            pass_ns: Vec::new(),
            pass_sampled_ns: Vec::new(),
            pass_unlogged_ns: Vec::new(),
        }
    }

    fn measure(&mut self, shape: Shape, turn: Duration) {
        let mut fixture = Fixture::new(shape);
        let mut side = DeviceSide::new(&fixture);
        self.pollux_ns.push(ns(&mut fixture, &mut side, turn));
        let mut fixture = Fixture::new(shape);
        if let Some(mut side) = ReferenceSide::new(&fixture) {
            let theirs = ns(&mut fixture, &mut side, turn);
            self.virtio_queue_ns.get_or_insert_default().push(theirs);
        }
        for (every, logs, into) in [
            (1, true, &mut self.pass_ns),
            (64, true, &mut self.pass_sampled_ns),
            (64, false, &mut self.pass_unlogged_ns),
        ] {
            let mut fixture = Fixture::new(shape);
            let every = NonZeroU32::new(every).unwrap_or(NonZeroU32::MIN);
            let mut side = PassSide::new(&fixture, every, logs);
            into.push(ns(&mut fixture, &mut side, turn));
        }
    }

    /// Returns how many times as long virtio-queue takes, by medians.
    pub fn ratio(&self) -> Option<f64> {
        Some(median(self.virtio_queue_ns.as_ref()?) / median(&self.pollux_ns))
    }
}

/// Returns the ns a request that `side` takes, the median of parts of `turn`: a part in which another program
/// ran does not count.
fn ns(fixture: &mut Fixture, side: &mut impl Side, turn: Duration) -> f64 {
    const PARTS: u32 = 20;
    let batch = u64::from(fixture.shape().batch);
    // Batches until a part is long enough, and everything is warm.
    let mut batches = 64;
    while time(fixture, side, batches) < turn / PARTS {
        batches *= 2;
    }
    let part = |_| {
        let taken = time(fixture, side, batches);
        taken.as_nanos() as f64 / (batches * batch) as f64
    };
    let parts: Vec<f64> = (0..PARTS).map(part).collect();
    median(&parts)
}

/// The median; not a number where nothing was measured.
fn median(values: &[f64]) -> f64 {
    statistics::median(values.to_vec()).unwrap_or(f64::NAN)
}

impl fmt::Display for RingComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header([
            "ring",
            "chains",
            "data segments",
            "batch",
            "pollux ns",
            "virtio-queue ns",
            "ratio",
            "whole pass ns",
            "1 in 64 timed ns",
            "and no log ns",
        ]);
        for row in &self.rows {
            let order = if row.in_order { ", in order" } else { "" };
            let or_none = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.1}"));
            table.add_row([
                format!("{}{order}", row.format),
                if row.indirect { "indirect" } else { "direct" }.to_owned(),
                row.segments.to_string(),
                row.batch.to_string(),
                format!("{:.1}", median(&row.pollux_ns)),
                or_none(row.virtio_queue_ns.as_deref().map(median)),
                or_none(row.ratio()),
                format!("{:.1}", median(&row.pass_ns)),
                format!("{:.1}", median(&row.pass_sampled_ns)),
                format!("{:.1}", median(&row.pass_unlogged_ns)),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{}", self.environment.line())?;
        writeln!(f, "device side of a 4 KiB read, ns a request, medians")?;
        writeln!(f, "{table}")?;
        writeln!(
            f,
            "pollux, virtio-queue: take, walk, read the header, write the status, return; ratio: how many \
             times as long virtio-queue takes\nwhole pass: a worker's, over a null disk, with counters, the \
             in-flight log of a split ring that is not in order, and the latency of every request, or of those of \
             one pass in 64"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_served_by_every_side_that_has_it() {
        let plan = RingPlan {
            rounds: 1,
            turn: Duration::from_micros(100),
        };
        let comparison = compare(plan, |_| {});
        assert_eq!(comparison.rows.len(), shapes().len());
        for row in &comparison.rows {
            assert!(row.pollux_ns[0] > 0.0 && row.pass_ns[0] > 0.0, "{row:?}");
            assert_eq!(
                row.ratio().is_some(),
                row.format == "split" && !row.in_order
            );
        }
        let shown = comparison.to_string();
        assert!(shown.contains("packed, in order") && shown.contains("virtio-queue ns"));
    }

    #[test]
    fn a_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
