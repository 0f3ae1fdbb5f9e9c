//! The result as a table for people.

use std::fmt;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::result::{Comparison, Ending, Row};
use crate::server::ServerKind;

const HEADER: [&str; 7] = [
    "QD",
    "server",
    "IOPS",
    "p50 us",
    "p99 us",
    "interrupts/request",
    "ratio to qemu",
];

impl fmt::Display for Comparison {
    /// What was measured where, the table, and notes on what a reader could take wrongly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        writeln!(f, "{}", self.environment.line())?;
        writeln!(
            f,
            "{} {} from a null disk, {} ms a point, medians; server on CPU {}, fio on CPU {}",
            settings.bs,
            settings.rw,
            settings.runtime_ms,
            crate::cpus::join(&settings.cpus.server),
            crate::cpus::join(&settings.cpus.fio),
        )?;
        writeln!(f, "{}", table(&self.summary))?;
        self.notes()
            .iter()
            .try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl Comparison {
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let asked = self.settings.rounds;
        let finished = self
            .points
            .iter()
            .map(|point| point.round)
            .max()
            .unwrap_or(0);
        match &self.ending {
            Ending::Complete => {}
            Ending::Stopped if finished == asked => {
                notes.push("stopped on request while interrupts were counted".to_owned());
            }
            Ending::Stopped => {
                notes.push(format!("stopped on request: {finished} of {asked} rounds"));
            }
            Ending::Failed(reason) => {
                notes.push(format!("{finished} of {asked} rounds, then: {reason}"));
            }
        }
        let errors: u64 = self.summary.iter().map(|row| row.errors).sum();
        if errors > 0 {
            notes.push(format!(
                "{errors} requests failed: these figures do not count"
            ));
        }
        notes.push(
            "latency: fio's lat, from before submission to completion; ratio: of the median IOPS \
             (lowest and highest of one round)"
                .to_owned(),
        );
        if self.settings.servers.contains(&ServerKind::Qemu) {
            notes.push(
                "qemu: vduse-blk export of null-co; it and pollux's null with fill=off leave read \
                 buffers as they are"
                    .to_owned(),
            );
            notes.push(self.interrupt_note());
        }
        notes
    }

    fn interrupt_note(&self) -> String {
        let reason = self
            .interrupts_counted
            .iter()
            .find_map(|count| count.reason.as_ref());
        match reason {
            Some(reason) => format!("- interrupts of qemu were not counted: {reason}"),
            None if self.interrupts_counted.is_empty() => {
                "- interrupts of qemu were not counted: the run ended before".to_owned()
            }
            None => "interrupts of qemu: its VDUSE_VQ_INJECT_IRQ calls, traced in a separate \
                     untimed run"
                .to_owned(),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(HEADER);
    for row in rows {
        table.add_row(cells(row));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if index != 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn cells(row: &Row) -> [String; 7] {
    let us = |ns: f64| format!("{:.1}", ns / 1000.0);
    let interrupts = row
        .interrupts_per_request
        .map_or("-".to_owned(), |n| format!("{n:.3}"));
    let ratio = match (&row.over_qemu, row.server) {
        (Some(ratio), _) if row.rounds > 1 => {
            format!(
                "{:.2} ({:.2}-{:.2})",
                ratio.of_medians, ratio.min, ratio.max
            )
        }
        (Some(ratio), _) => format!("{:.2}", ratio.of_medians),
        (None, ServerKind::Qemu) => "1".to_owned(),
        (None, _) => "-".to_owned(),
    };
    [
        row.iodepth.to_string(),
        row.server.to_string(),
        format!("{:.0}", row.iops),
        us(row.p50_ns),
        us(row.p99_ns),
        interrupts,
        ratio,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::comparison;
    use super::*;

    #[test]
    fn rows_show_figures_and_ratio() {
        let text = comparison(Ending::Complete).to_string();
        let line = |server| {
            let line = text
                .lines()
                .find(|line| line.contains(server) && line.contains('│'));
            line.unwrap()
                .replace(['│', '┆'], " ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            line("pollux "),
            "1 pollux 8000 120.0 240.0 0.500 4.00 (2.00-4.00)"
        );
        assert_eq!(line("qemu  "), "1 qemu 2000 450.0 900.0 1.000 1");
        assert!(text.contains("4k randread"));
        assert!(text.contains("2 requests failed"));
    }

    #[test]
    fn an_early_end_and_a_missing_count_are_told() {
        let mut stopped = comparison(Ending::Stopped);
        stopped.settings.rounds = 5;
        stopped.interrupts_counted.clear();
        let text = stopped.to_string();
        assert!(text.contains("stopped on request: 3 of 5 rounds"), "{text}");
        assert!(text.contains("not counted: the run ended before"), "{text}");
        let mut failed = comparison(Ending::Failed("qemu: ended".to_owned()));
        failed.interrupts_counted[0].reason = Some("no tracefs".to_owned());
        let text = failed.to_string();
        assert!(
            text.contains("then: qemu: ended") && text.contains("no tracefs"),
            "{text}"
        );
    }
}
