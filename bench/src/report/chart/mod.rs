//! Charts as SVG inside of the page. Colours come from the page's style, by class, so that one drawing suits dark
//! and light; a drawing is as wide as a phone, so that its text keeps its size wherever it is shown.
//!
//! Written here and not by a library: those that draw SVG (plotters, charming's renderer) write colours and fonts
//! into each element, and place text by guessed widths.

mod bars;
mod lines;
mod scale;

use maud::{Markup, html};

use super::model::{Drawing, Lines};
use scale::Ruler;

/// Width of every chart in units of its own, which are pixels of a phone.
const WIDTH: f64 = 400.0;
/// Series with colours of their own; later ones begin anew.
const COLOURS: usize = 10;

/// Draws `drawing`, which is called `title` to those who do not see it.
pub(super) fn draw(drawing: &Drawing, title: &str) -> Markup {
    match drawing {
        Drawing::Lines(lines) => lines::draw(lines, title),
        Drawing::Bars(bars) => bars::draw(bars, title),
    }
}

/// Names the colours and marks of a chart; bars are named where they are.
pub(super) fn legend(drawing: &Drawing) -> Markup {
    let Drawing::Lines(Lines { series, .. }) = drawing else {
        return html! {};
    };
    html! {
        ul.legend {
            @for line in series {
                li {
                    svg.swatch viewBox="0 0 16 12" aria-hidden="true" {
                        g class=(colour(line.colour)) { (mark(line.colour, 8.0, 6.0, "")) }
                    }
                    (line.name)
                }
            }
        }
    }
}

fn colour(place: usize) -> String {
    format!("c{}", place % COLOURS)
}

/// A mark whose shape tells neighbours apart where colours do not.
fn mark(place: usize, x: f64, y: f64, label: &str) -> Markup {
    const R: f64 = 4.0;
    let corners: &[(f64, f64)] = match place % 4 {
        0 => &[],
        1 => &[(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
        2 => &[(0.0, -1.2), (1.2, 1.0), (-1.2, 1.0)],
        _ => &[(0.0, -1.4), (1.4, 0.0), (0.0, 1.4), (-1.4, 0.0)],
    };
    let points: Vec<String> = corners
        .iter()
        .map(|(right, down)| format!("{:.1},{:.1}", x + right * R, y + down * R))
        .collect();
    html! {
        @if corners.is_empty() {
            circle.mark cx=(number(x)) cy=(number(y)) r=(R) { (tip(label)) }
        } @else {
            polygon.mark points=(points.join(" ")) { (tip(label)) }
        }
    }
}

/// What a browser shows when the mark is pointed at.
fn tip(label: &str) -> Markup {
    html! { @if !label.is_empty() { title { (label) } } }
}

/// Coordinates to a tenth of a unit.
fn number(value: f64) -> String {
    format!("{value:.1}")
}

/// Where to write the ticks of an axis from left to right, without those that would touch the one before.
fn labels(ruler: &Ruler, across: impl Fn(f64) -> Option<f64>) -> Vec<(f64, &str)> {
    const GAP: f64 = 6.0;
    let mut labels: Vec<(f64, &str)> = Vec::new();
    let mut end = f64::NEG_INFINITY;
    for (at, text) in &ruler.ticks {
        let Some(x) = across(*at) else { continue };
        let half = width(text) / 2.0;
        if x - half >= end + GAP && x + half <= WIDTH {
            labels.push((x, text));
            end = x + half;
        }
    }
    labels
}

/// Width that `text` may have in the widest of usual fonts: there are wider letters, but no label is made of them.
fn width(text: &str) -> f64 {
    const LETTER: f64 = 7.6;
    text.chars().count() as f64 * LETTER
}

/// Returns `text`, or its beginning and an ellipsis where it is wider than `room`.
fn fit(text: &str, room: f64) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = text.to_owned();
    while width(&kept) + width("…") > room && kept.pop().is_some() {}
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::{Axis, Scale, Unit};

    #[test]
    fn labels_that_would_touch_are_left_out() {
        let axis = Axis {
            title: String::new(),
            scale: Scale::Log,
            unit: Unit::Count,
            ticks: [1, 127, 128]
                .map(|depth| (f64::from(depth), depth.to_string()))
                .to_vec(),
        };
        let ruler = Ruler::new(&axis, [1.0, 128.0].into_iter());
        let across = |value| Some(20.0 + 300.0 * ruler.place(value)?);
        let written: Vec<&str> = labels(&ruler, across)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(written, ["1", "127"]);
    }

    #[test]
    fn text_that_is_too_long_ends_in_an_ellipsis() {
        assert_eq!(fit("pollux", 100.0), "pollux");
        assert_eq!(fit("pollux:backend=null", 76.0), "pollux:ba…");
        assert_eq!(fit("pollux", 0.0), "…");
    }
}
