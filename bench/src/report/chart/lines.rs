//! Points joined by lines.

use maud::{Markup, html};

use super::scale::Ruler;
use super::{WIDTH, colour, labels, mark, number};
use crate::report::model::{Lines, Series};

const HEIGHT: f64 = 290.0;
/// Where the marks are.
const LEFT: f64 = 56.0;
const RIGHT: f64 = WIDTH - 10.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = HEIGHT - 44.0;

/// Both axes, as coordinates.
struct Plot {
    x: Ruler,
    y: Ruler,
}

impl Plot {
    fn new(lines: &Lines) -> Self {
        let points = || lines.series.iter().flat_map(|series| &series.points);
        let ranges = points().filter_map(|point| point.range);
        let ends = ranges.flat_map(|(low, high)| [low, high]);
        Self {
            x: Ruler::new(&lines.x, points().map(|point| point.x)),
            y: Ruler::new(&lines.y, points().map(|point| point.y).chain(ends)),
        }
    }

    fn across(&self, value: f64) -> Option<f64> {
        Some(LEFT + (RIGHT - LEFT) * self.x.place_inside(value)?)
    }

    fn up(&self, value: f64) -> Option<f64> {
        Some(BOTTOM - (BOTTOM - TOP) * self.y.place(value)?)
    }
}

pub(super) fn draw(lines: &Lines, title: &str) -> Markup {
    let plot = Plot::new(lines);
    let middle = (LEFT + RIGHT) / 2.0;
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(title) {
            rect.plot x=(LEFT) y=(TOP) width=(RIGHT - LEFT) height=(BOTTOM - TOP) {}
            @for (at, text) in &plot.y.ticks {
                @if let Some(y) = plot.up(*at).map(number) {
                    line.grid x1=(LEFT) x2=(RIGHT) y1=(y) y2=(y) {}
                    text.end x=(LEFT - 6.0) y=(y) dy="0.35em" { (text) }
                }
            }
            @for (x, text) in labels(&plot.x, |value| plot.across(value)) {
                line.grid x1=(number(x)) x2=(number(x)) y1=(TOP) y2=(BOTTOM) {}
                text.middle x=(number(x)) y=(BOTTOM + 18.0) { (text) }
            }
            text.axis x="2" y=(TOP - 14.0) { (lines.y.title) }
            text.axis.middle x=(middle) y=(HEIGHT - 6.0) { (lines.x.title) }
            @for one in &lines.series { (series(&plot, one)) }
        }
    }
}

fn series(plot: &Plot, series: &Series) -> Markup {
    let placed = series.points.iter().filter_map(|point| {
        let (x, y) = (plot.across(point.x)?, plot.up(point.y)?);
        Some((x, y, point))
    });
    let path: Vec<String> = placed
        .clone()
        .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
        .collect();
    let range = |(low, high): (f64, f64)| Some((number(plot.up(low)?), number(plot.up(high)?)));
    html! {
        g class=(colour(series.colour)) {
            polyline.line points=(path.join(" ")) {}
            @for (x, y, point) in placed {
                @if let Some((low, high)) = point.range.and_then(range) {
                    line.range x1=(number(x)) x2=(number(x)) y1=(low) y2=(high) {}
                }
                (mark(series.colour, x, y, &point.label))
            }
        }
    }
}
