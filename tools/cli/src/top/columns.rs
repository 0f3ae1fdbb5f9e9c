//! The columns of both tables: their titles, how wide they are, what is in them and how that sorts.

use std::cmp::Ordering;

use super::rates::{DeviceRow, QueueRow, Rates};
use crate::show::state;

/// What is in a cell.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A word.
    Text(String),
    /// A number, where it is known, and how to write it.
    Number(Option<f64>, fn(f64) -> String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => out.pad(text),
            Self::Number(Some(number), write) => out.pad(&write(*number)),
            Self::Number(None, _) => out.pad("-"),
        }
    }
}

impl Value {
    /// Words go up, numbers down, and what is not known is last.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(this), Self::Text(that)) => this.cmp(that),
            (Self::Number(this, _), Self::Number(that, _)) => {
                let known = |number: &Option<f64>| number.unwrap_or(f64::NEG_INFINITY);
                known(that).total_cmp(&known(this))
            }
            (Self::Text(_), Self::Number(..)) => Ordering::Less,
            (Self::Number(..), Self::Text(_)) => Ordering::Greater,
        }
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Self::Number(..))
    }
}

/// A column of a table with rows `R`.
pub(crate) struct Column<R> {
    pub(crate) title: &'static str,
    /// The widest value and the title fit; a device's name may have more.
    pub(crate) width: u16,
    pub(crate) value: fn(&R) -> Value,
}

/// The columns of devices. The last minute is beside them.
pub(crate) const DEVICE: [Column<DeviceRow>; 9] = [
    column("NAME", 11, |row: &DeviceRow| Value::Text(row.name.clone())),
    column("STATE", 9, |row| Value::Text(row.state.clone())),
    column("IOPS", 6, |row| rate(row.rates, |it| it.iops)),
    column("READ/s", 6, |row| {
        bytes(row.rates, |it| it.read_bytes_per_second)
    }),
    column("WRITE/s", 7, |row| {
        bytes(row.rates, |it| it.written_bytes_per_second)
    }),
    column("P50", 6, |row| time(row.latency.p50_ns)),
    column("P99", 6, |row| time(row.latency.p99_ns)),
    column("BUSY", 5, |row| busy(row.rates)),
    column("IRQ/REQ", 7, |row| interrupts(row.rates)),
];

/// Which of [`DEVICE`] sorts at the start.
pub(crate) const IOPS: usize = 2;

/// The columns of queues.
pub(crate) const QUEUE: [Column<QueueRow>; 12] = [
    column("VQ", 3, |row: &QueueRow| {
        Value::Number(Some(row.index.into()), |it| it.to_string())
    }),
    column("CPU", 3, |row| {
        Value::Number(Some(row.cpu as f64), |it| it.to_string())
    }),
    column("STATE", 7, |row| Value::Text(state(row.state).into())),
    column("IOPS", 6, |row| rate(row.rates, |it| it.iops)),
    column("READ/s", 6, |row| {
        bytes(row.rates, |it| it.read_bytes_per_second)
    }),
    column("WRITE/s", 7, |row| {
        bytes(row.rates, |it| it.written_bytes_per_second)
    }),
    column("P50", 6, |row| time(row.latency.p50_ns)),
    column("P99", 6, |row| time(row.latency.p99_ns)),
    column("BUSY", 5, |row| busy(row.rates)),
    column("IRQ/REQ", 7, |row| interrupts(row.rates)),
    column("ERR/s", 5, |row| rate(row.rates, |it| it.errors_per_second)),
    column("SLEEP/s", 7, |row| {
        rate(row.rates, |it| it.sleeps_per_second)
    }),
];

const fn column<R>(title: &'static str, width: u16, value: fn(&R) -> Value) -> Column<R> {
    Column {
        title,
        width,
        value,
    }
}

fn rate(rates: Option<Rates>, of: fn(Rates) -> f64) -> Value {
    Value::Number(rates.map(of), count)
}

fn bytes(rates: Option<Rates>, of: fn(Rates) -> f64) -> Value {
    Value::Number(rates.map(of), binary)
}

fn time(ns: Option<u64>) -> Value {
    Value::Number(ns.map(|ns| ns as f64), nanoseconds)
}

fn busy(rates: Option<Rates>) -> Value {
    let share = rates.and_then(|rates| rates.busy_share);
    Value::Number(share, percent)
}

/// Polling threads look often: what is little is not to read as nothing.
fn percent(share: f64) -> String {
    match share * 100.0 {
        little if 0.0 < little && little < 9.95 => format!("{little:.1}%"),
        percent => format!("{percent:.0}%"),
    }
}

fn interrupts(rates: Option<Rates>) -> Value {
    let ratio = rates.and_then(|rates| rates.interrupts_per_request);
    Value::Number(ratio, |ratio| format!("{ratio:.3}"))
}

/// Returns `value` in the largest unit that it reaches, each `base` times the one before, with three digits.
fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // What would be rounded to the next unit is in that one.
    while value >= base - 0.5 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 && value.fract() == 0.0 => 0,
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}{}", units[unit])
}

/// Returns a count in thousands: `950`, `16.9k`, `1.23M`.
pub(crate) fn count(value: f64) -> String {
    let whole = if value >= 10.0 { value.round() } else { value };
    scaled(whole, 1000.0, &["", "k", "M", "G"])
}

/// Returns bytes in units of 1024: `4.00K`, `1.25G`.
pub(crate) fn binary(value: f64) -> String {
    scaled(value.round(), 1024.0, &["", "K", "M", "G", "T"])
}

fn nanoseconds(value: f64) -> String {
    scaled(value, 1000.0, &["ns", "us", "ms", "s"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_their_unit() {
        for (value, expected) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (12.4, "12"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (16_851.0, "16.9k"),
            (99_960.0, "100k"),
            (1_234_000.0, "1.23M"),
        ] {
            assert_eq!(count(value), expected);
        }
        for (value, expected) in [
            (1023.0, "1023"),
            (4096.0, "4.00K"),
            (1_047_552.0, "1023K"),
            (1_342_177_280.0, "1.25G"),
        ] {
            assert_eq!(binary(value), expected);
        }
        for (value, expected) in [
            (280.0, "280ns"),
            (1230.0, "1.23us"),
            (16_900.0, "16.9us"),
            (999_900.0, "1.00ms"),
            (12_000_000_000.0, "12.0s"),
        ] {
            assert_eq!(nanoseconds(value), expected);
        }
        for (share, expected) in [(0.0, "0%"), (0.0014, "0.1%"), (0.25, "25%"), (1.0, "100%")] {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn what_is_not_known_sorts_last() {
        let number = |value| Value::Number(value, count);
        assert_eq!(number(Some(2.0)).order(&number(Some(1.0))), Ordering::Less);
        assert_eq!(number(None).order(&number(Some(0.0))), Ordering::Greater);
        let text = |value: &str| Value::Text(value.into());
        assert_eq!(text("d0").order(&text("d1")), Ordering::Less);
    }

    #[test]
    fn a_title_is_not_wider_than_its_column() {
        let titles = DEVICE.iter().map(|it| (it.title, it.width));
        for (title, width) in titles.chain(QUEUE.iter().map(|it| (it.title, it.width))) {
            assert!(title.len() <= usize::from(width), "{title}");
        }
    }
}
