//! How numbers are written for people.

use super::model::Unit;

/// Returns `value` in at most three significant digits and the unit that suits: `45k`, `1.9 us`.
pub(super) fn short(value: f64, unit: Unit) -> String {
    let steps: &[(f64, &str)] = match unit {
        Unit::Count => &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")],
        Unit::Nanoseconds => &[(1e9, " s"), (1e6, " ms"), (1e3, " us"), (1.0, " ns")],
    };
    let fitting = steps.iter().find(|(size, _)| value.abs() >= 0.9995 * size);
    let (size, suffix) = fitting.copied().unwrap_or((1.0, steps[steps.len() - 1].1));
    let digits = significant(value / size);
    let digits = match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => &digits,
    };
    format!("{digits}{suffix}")
}

/// Returns `value` in three significant digits: `19.1`, `4.45`, `0.685`.
pub(super) fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 99.95 => 0,
        large if large >= 9.995 => 1,
        large if large >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Returns nanoseconds in microseconds: a decimal where there is one digit before the point.
pub(super) fn us(value_ns: f64) -> String {
    let us = value_ns / 1000.0;
    match us < 9.95 {
        true => format!("{us:.1}"),
        false => format!("{us:.0}"),
    }
}

/// Returns interrupts a request, `-` where none were counted.
pub(super) fn interrupts(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 0.0005 => "0".to_owned(),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_get_the_unit_that_suits() {
        for (value, expected) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1.0, "1"),
            (999.9, "1k"),
            (45_312.0, "45.3k"),
            (1_120_217.0, "1.12M"),
        ] {
            assert_eq!(short(value, Unit::Count), expected);
        }
        for (value, expected) in [
            (500.0, "500 ns"),
            (1876.0, "1.88 us"),
            (10_000.0, "10 us"),
            (101_993_049.0, "102 ms"),
            (2e9, "2 s"),
        ] {
            assert_eq!(short(value, Unit::Nanoseconds), expected);
        }
    }

    #[test]
    fn three_digits_tell() {
        let written = [19.118, 9.709, 4.454, 0.6812, 120.2].map(significant);
        assert_eq!(written, ["19.1", "9.71", "4.45", "0.681", "120"]);
        assert_eq!([1876.0, 27_100.0].map(us), ["1.9", "27"]);
        assert_eq!(interrupts(Some(8e-6)), "0");
        assert_eq!(interrupts(Some(0.067)), "0.067");
        assert_eq!(interrupts(None), "-");
    }
}
