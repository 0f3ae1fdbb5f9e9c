//! From values to places on a chart, and where to write numbers.

use crate::report::model::{Axis, Scale};
use crate::report::number::short;

/// Room between marks and the ends of an axis, in parts of the axis.
const MARGIN: f64 = 0.04;
/// Fewest ticks that a linear axis is to have.
const TICKS_MIN: f64 = 3.0;
/// Smallest end of a linear axis.
const MOST_MIN: f64 = 1e-100;
/// Most ticks of a logarithmic axis that are not decades alone.
const LOG_TICKS_MAX: usize = 7;

/// An axis that knows what lies on it.
#[derive(Clone, Debug)]
pub(super) struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    /// Where to write what.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Ruler {
    /// An axis on which all of `values` have a place. A linear one starts at 0, unless `axis` names its ticks.
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let drawable =
            |value: &f64| value.is_finite() && (axis.scale == Scale::Linear || *value > 0.0);
        let named = axis.ticks.iter().map(|(at, _)| *at);
        let values: Vec<f64> = values.chain(named).filter(drawable).collect();
        let least = values.iter().copied().reduce(f64::min).unwrap_or(1.0);
        let most = values.iter().copied().reduce(f64::max).unwrap_or(1.0);
        let (low, high, round) = match axis.scale {
            Scale::Linear if axis.ticks.is_empty() => linear(most),
            Scale::Linear => (least, most, Vec::new()),
            Scale::Log if axis.ticks.is_empty() => logarithmic(least, most),
            Scale::Log => (least, most, Vec::new()),
        };
        let written = |at: f64| (at, short(at, axis.unit));
        let ticks = match axis.ticks.is_empty() {
            true => round.into_iter().map(written).collect(),
            false => axis.ticks.clone(),
        };
        Self {
            scale: axis.scale,
            low,
            high,
            ticks,
        }
    }

    /// The place of `value`, from 0 to 1; none where it has no place.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let (value, low, high) = match self.scale {
            Scale::Linear => (value, self.low, self.high),
            Scale::Log if value <= 0.0 => return None,
            Scale::Log => (value.log10(), self.low.log10(), self.high.log10()),
        };
        let part = match high > low {
            true => (value - low) / (high - low),
            false => 0.5,
        };
        part.is_finite().then_some(part.clamp(0.0, 1.0))
    }

    /// The same with room at both ends, for marks that would lie on them.
    pub(super) fn place_inside(&self, value: f64) -> Option<f64> {
        Some(MARGIN + (1.0 - 2.0 * MARGIN) * self.place(value)?)
    }
}

/// From 0 to the first round value that is not below `most`.
fn linear(most: f64) -> (f64, f64, Vec<f64>) {
    // What is next to nothing has no decade below it.
    let most = if most > MOST_MIN { most } else { 1.0 };
    let decade = 10f64.powf((most / TICKS_MIN).log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|step| step * decade);
    let step = steps
        .into_iter()
        .find(|step| most / step >= TICKS_MIN)
        .unwrap_or(decade);
    let count = (most / step).ceil();
    let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step);
    (0.0, count * step, ticks.collect())
}

/// From a round value at or below `least` to one at or above `most`, where round is 1, 2 or 5 times a decade; of many
/// only decades are written.
fn logarithmic(least: f64, most: f64) -> (f64, f64, Vec<f64>) {
    let first = least.log10().floor() as i32;
    let last = most.log10().ceil() as i32;
    let decades = (first..=last).map(|exponent| 10f64.powi(exponent));
    let round: Vec<f64> = decades
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|it| it * decade))
        .collect();
    // A value that is round itself may come out a little above or below.
    let begin = round
        .iter()
        .rposition(|it| *it <= least * 1.001)
        .unwrap_or(0);
    let end = round
        .iter()
        .position(|it| *it >= most * 0.999)
        .unwrap_or(round.len() - 1);
    // The last decade is followed by its double, so there is always one more.
    let end = end.max(begin + 1).min(round.len() - 1);
    let ticks = &round[begin..=end];
    let decade = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-9;
    let written = match ticks.len() > LOG_TICKS_MAX {
        true => ticks.iter().copied().filter(decade).collect(),
        false => ticks.to_vec(),
    };
    (round[begin], round[end], written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Unit;

    fn ruler(scale: Scale, values: &[f64]) -> Ruler {
        let axis = Axis {
            title: String::new(),
            scale,
            unit: Unit::Count,
            ticks: Vec::new(),
        };
        Ruler::new(&axis, values.iter().copied())
    }

    fn written(ruler: &Ruler) -> Vec<&str> {
        ruler.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn linear_axes_start_at_zero_and_end_at_a_round_value() {
        let iops = ruler(Scale::Linear, &[3783.0, 96_122.0]);
        assert_eq!(written(&iops), ["0", "20k", "40k", "60k", "80k", "100k"]);
        assert_eq!(iops.place(0.0), Some(0.0));
        assert_eq!(iops.place(50_000.0), Some(0.5));
        assert_eq!(
            written(&ruler(Scale::Linear, &[1.0])),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        for nothing in [0.0, f64::from_bits(1)] {
            assert_eq!(ruler(Scale::Linear, &[nothing]).ticks.len(), 6);
        }
    }

    #[test]
    fn logarithmic_axes_hold_all_values_and_those_below_zero_have_no_place() {
        let ratio = ruler(Scale::Log, &[0.63, 4.45]);
        assert_eq!(written(&ratio), ["0.5", "1", "2", "5"]);
        let latency = ruler(Scale::Log, &[1500.0, 1.1e8]);
        assert_eq!(
            written(&latency),
            ["1k", "10k", "100k", "1M", "10M", "100M"]
        );
        assert_eq!(latency.place(0.0), None);
        assert!(latency.place(1500.0).unwrap() > 0.0);
        assert!(ruler(Scale::Log, &[1.0]).place(1.0).is_some());
        assert!(ruler(Scale::Log, &[]).ticks.len() > 1);
    }

    #[test]
    fn each_value_lies_between_its_neighbours() {
        for scale in [Scale::Linear, Scale::Log] {
            let ruler = ruler(scale, &[3.0, 70.0, 900.0]);
            let places = [3.0, 70.0, 900.0].map(|value| ruler.place(value).unwrap());
            assert!(
                places.is_sorted() && places[0] < places[1] && places[2] <= 1.0,
                "{places:?}"
            );
            assert!(ruler.place_inside(3.0).unwrap() > ruler.place(3.0).unwrap() - 0.01);
        }
    }
}
