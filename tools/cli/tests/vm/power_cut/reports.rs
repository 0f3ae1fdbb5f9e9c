//! What the writers in the guest have reported, and when the power goes.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// First word of a report on a line of its own: `flushed WRITER EPOCH`.
pub(super) const REPORT: &str = "flushed";
/// The power goes at most this long after every writer has reported.
const CUT_MS_MAX: u64 = 4000;
/// Time after a report, so that no cut waits for the end of a FLUSH.
const LAST_US_MAX: u64 = 20_000;

/// The last epoch that each writer has reported; the guest's stdout. When the power is to go, a write to it fails,
/// which ends the machine at once.
#[derive(Default)]
pub(super) struct Reports {
    last: BTreeMap<String, u64>,
    text: String,
    /// Bytes of the text that were looked at.
    read: usize,
    cut: Option<Cut>,
}

struct Cut {
    writers: usize,
    random: SmallRng,
    at: Option<Instant>,
    done: bool,
}

impl Reports {
    /// Cuts the power at a random moment after each of `writers` has reported once.
    pub(super) fn cut_after_all_of(writers: &[String], seed: u64) -> Self {
        let cut = Cut {
            writers: writers.len(),
            random: SmallRng::seed_from_u64(seed),
            at: None,
            done: false,
        };
        Self {
            cut: Some(cut),
            ..Self::default()
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.as_ref().is_some_and(|cut| cut.done)
    }

    /// Returns all that was printed.
    pub(super) fn text(&self) -> String {
        self.text.clone()
    }

    /// Returns the last epoch of `writer`, 0 for none.
    pub(super) fn of(&self, writer: &str) -> u64 {
        self.last.get(writer).copied().unwrap_or(0)
    }

    /// Takes reports from the lines that are whole.
    fn read(&mut self) {
        let new = &self.text[self.read..];
        let end = new.rfind('\n').map_or(0, |end| end + 1);
        for line in new[..end].lines() {
            let mut words = line.split(' ');
            if words.next() != Some(REPORT) {
                continue;
            }
            let (writer, epoch) = (words.next(), words.next().and_then(|it| it.parse().ok()));
            if let (Some(writer), Some(epoch)) = (writer, epoch) {
                self.last.insert(writer.to_owned(), epoch);
            }
        }
        self.read += end;
    }
}

impl Write for Reports {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.push_str(&String::from_utf8_lossy(bytes));
        self.read();
        let Some(cut) = &mut self.cut else {
            return Ok(bytes.len());
        };
        if self.last.len() == cut.writers && cut.at.is_none() {
            let after = Duration::from_millis(cut.random.random_range(0..CUT_MS_MAX));
            cut.at = Some(Instant::now() + after);
        }
        if cut.at.is_none_or(|at| Instant::now() < at) {
            return Ok(bytes.len());
        }
        sleep(Duration::from_micros(
            cut.random.random_range(0..LAST_US_MAX),
        ));
        cut.done = true;
        Err(io::Error::other("the power is cut"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .last
            .iter()
            .map(|(writer, epoch)| format!("{writer}={epoch}"));
        f.write_str(&pairs.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Reports {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut reports = Self::default();
        for (writer, epoch) in text.split(',').filter_map(|pair| pair.split_once('=')) {
            reports.last.insert(writer.to_owned(), epoch.parse()?);
        }
        Ok(reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_count_and_the_last_of_each_writer() {
        let mut reports = Reports::default();
        for bytes in [
            "flushed a 1\nother\nflushed b 1\nflush",
            "ed a 2\nflushed b 2",
        ] {
            reports.write_all(bytes.as_bytes()).unwrap();
        }
        assert_eq!(reports.to_string(), "a=2,b=1");
        let read: Reports = reports.to_string().parse().unwrap();
        assert_eq!((read.of("a"), read.of("b"), read.of("c")), (2, 1, 0));
    }
}
