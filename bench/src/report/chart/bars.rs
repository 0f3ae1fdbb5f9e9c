//! Values in rows: a name and the value in words, and the bar below them.

use maud::{Markup, html};

use super::scale::Ruler;
use super::{WIDTH, colour, fit, labels, mark, number, tip, width};
use crate::report::model::{Bar, Bars, Group, Scale};

/// Height of a group's title, of a row, and of a bar.
const TITLE: f64 = 26.0;
const ROW: f64 = 32.0;
const BAR: f64 = 9.0;
/// From the top of a row to the middle of its bar.
const MIDDLE: f64 = 22.0;
/// Height of the axis below all rows.
const AXIS: f64 = 46.0;
/// Room at both ends, for half of a label.
const LEFT: f64 = 12.0;
const RIGHT: f64 = WIDTH - 20.0;
/// Between a name and the value in words.
const GAP: f64 = 12.0;
/// A bar of a value of 0 is seen, too.
const LENGTH_MIN: f64 = 1.0;

pub(super) fn draw(bars: &Bars, title: &str) -> Markup {
    let all = || bars.groups.iter().flat_map(|group| &group.bars);
    let ends = all()
        .filter_map(|bar| bar.range)
        .flat_map(|(low, high)| [low, high]);
    let values = all()
        .filter_map(|bar| bar.value)
        .chain(ends)
        .chain(bars.reference);
    let ruler = Ruler::new(&bars.axis, values);
    let height_of = |group: &Group| TITLE + ROW * group.bars.len() as f64;
    let mut bottom = 0.0;
    let begins = |group: &Group| {
        let top = bottom;
        bottom += height_of(group);
        top
    };
    let tops: Vec<f64> = bars.groups.iter().map(begins).collect();
    let across = |value: f64| Some(LEFT + (RIGHT - LEFT) * ruler.place(value)?);
    let is_log = bars.axis.scale == Scale::Log;
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {}", bottom + AXIS)) role="img" aria-label=(title) {
            @for (x, text) in labels(&ruler, across) {
                line.grid x1=(number(x)) x2=(number(x)) y1=(TITLE) y2=(bottom) {}
                // A wide first one would reach over the edge.
                text.middle x=(number(x.max(width(text) / 2.0))) y=(bottom + 16.0) { (text) }
            }
            text.axis.middle x=((LEFT + RIGHT) / 2.0) y=(bottom + 36.0) { (bars.axis.title) }
            @if let Some(x) = bars.reference.and_then(across).map(number) {
                line.reference x1=(x) x2=(x) y1=(TITLE) y2=(bottom) {}
            }
            rect.plot.bare x=(LEFT - 6.0) y="0" width=(RIGHT - LEFT + 12.0) height=(bottom) {}
            @for (group, top) in bars.groups.iter().zip(tops) {
                text.group x="0" y=(top + 17.0) { (group.title) }
                @for (place, bar) in group.bars.iter().enumerate() {
                    (row(bar, top + TITLE + ROW * place as f64, is_log, across))
                }
            }
        }
    }
}

fn row(bar: &Bar, top: f64, is_log: bool, across: impl Fn(f64) -> Option<f64>) -> Markup {
    let room = WIDTH - width(&bar.text) - GAP;
    let middle = top + MIDDLE;
    let label = format!("{}: {}", bar.name, bar.text);
    let range = bar
        .range
        .and_then(|(low, high)| Some((number(across(low)?), number(across(high)?))));
    html! {
        text x="0" y=(top + 12.0) { (fit(&bar.name, room)) (tip(&bar.name)) }
        text.end x=(WIDTH) y=(top + 12.0) { (bar.text) }
        g class=(colour(bar.colour)) {
            @if let Some(end) = bar.value.and_then(&across) {
                @if is_log {
                    (mark(bar.colour, end, middle, &label))
                } @else {
                    rect.mark.bar x=(LEFT) y=(middle - BAR / 2.0)
                        width=(number((end - LEFT).max(LENGTH_MIN))) height=(BAR) { (tip(&label)) }
                }
            }
        }
        @if let Some((low, high)) = range {
            line.range.over x1=(low) x2=(high) y1=(middle) y2=(middle) {}
        }
    }
}
