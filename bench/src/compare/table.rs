//! The result as a table for people.

use std::fmt;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::result::{Comparison, Ending, Row, Settings};
use crate::server::{ServerKind, Variant};
use crate::tool::{QEMU, Tool};
use crate::transport::Transport;

impl fmt::Display for Comparison {
    /// What was measured where, the table, and notes on what a reader could take wrongly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.settings;
        writeln!(f, "{}", self.environment.line())?;
        writeln!(
            f,
            "{}: {} {} {}, {} ms a point, medians; server on CPU {}, load on CPU {}",
            settings.transport,
            settings.bs,
            settings.rw,
            settings.disks(),
            settings.runtime_ms,
            crate::cpus::join(&settings.cpus.server),
            crate::cpus::join(&settings.cpus.fio),
        )?;
        writeln!(f, "{}", table(&self.summary, settings))?;
        self.notes()
            .iter()
            .try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl Settings {
    pub(crate) fn disks(&self) -> &'static str {
        match self.servers.iter().any(Variant::has_storage) {
            true => "from the storage named, otherwise a null disk",
            false => "from a null disk",
        }
    }

    fn has(&self, kind: ServerKind) -> bool {
        self.servers.iter().any(|server| server.kind() == kind)
    }

    /// Whether a server of this kind has a null disk.
    fn has_null(&self, kind: ServerKind) -> bool {
        let is_null = |it: &Variant| it.kind() == kind && !it.has_storage();
        self.servers.iter().any(is_null)
    }
}

impl Comparison {
    pub(crate) fn notes(&self) -> Vec<String> {
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
            "latency: from before submission to completion; ratio: of the median IOPS (lowest and \
             highest of one round)"
                .to_owned(),
        );
        notes.push(self.load_note().to_owned());
        let settings = &self.settings;
        if settings.has_null(ServerKind::Qemu) {
            let export = match settings.transport {
                Transport::VhostUser => "vhost-user-blk",
                _ => "vduse-blk",
            };
            notes.push(format!(
                "qemu: {export} export of null-co; it and pollux's null with fill=off leave read buffers as they are"
            ));
        } else if !settings.has(ServerKind::Qemu) {
            let Tool { program, install } = QEMU;
            notes.push(format!(
                "qemu: left out, or {program} is not installed; `{install}`"
            ));
        }
        if settings.has(ServerKind::Rublk) {
            notes.push("rublk: ublk's null target, which leaves read buffers as well".to_owned());
        } else if settings.transport.servers().contains(&ServerKind::Rublk) {
            notes.push("rublk: left out or not installed; tools/peers builds it".to_owned());
        }
        if settings.has(ServerKind::Qemu) && !settings.transport.is_driven_here() {
            notes.push(self.interrupt_note());
        }
        notes
    }

    fn load_note(&self) -> &'static str {
        match self.settings.transport {
            Transport::VduseVirtio => "load: fio with io_uring, completions by interrupt",
            Transport::VduseVirtioPoll => {
                "load: fio with io_uring; on pollux it polls a poll queue (--hipri), whose own \
                 counters are shown with the ramp time's; the others complete by interrupt"
            }
            Transport::VduseVhost => {
                "load: one thread with virtio-driver on /dev/vhost-vdpa-N that polls for completions; \
                 no interrupts asked for, kicks only where asked for"
            }
            Transport::VhostUser => {
                "load: one thread with virtio-driver on a vhost-user socket that polls for completions; \
                 no interrupts asked for, kicks only where asked for"
            }
        }
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

/// The columns that this comparison has something for.
fn table(rows: &[Row], settings: &Settings) -> Table {
    let mut header = [
        "QD",
        "server",
        "IOPS",
        "p50 us",
        "p99 us",
        "interrupts/request",
    ]
    .map(str::to_owned)
    .to_vec();
    let peers: Vec<String> = settings.peers().map(Variant::name).collect();
    header.extend(peers.iter().map(|peer| format!("ratio to {peer}")));
    let polled = settings.transport == Transport::VduseVirtioPoll;
    if polled {
        header.push("poll queue: requests/interrupts/kicks".to_owned());
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    for row in rows {
        let mut cells = figures(row);
        cells.extend(peers.iter().map(|peer| ratio(row, peer)));
        if polled {
            cells.push(row.poll_queue.map_or("-".to_owned(), |queue| {
                format!("{}/{}/{}", queue.requests, queue.interrupts, queue.kicks)
            }));
        }
        table.add_row(cells);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        if index != 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn figures(row: &Row) -> Vec<String> {
    let us = |ns: f64| format!("{:.1}", ns / 1000.0);
    let interrupts = row
        .interrupts_per_request
        .map_or("-".to_owned(), |n| format!("{n:.3}"));
    vec![
        row.iodepth.to_string(),
        row.server.name(),
        format!("{:.0}", row.iops),
        us(row.p50_ns),
        us(row.p99_ns),
        interrupts,
    ]
}

fn ratio(row: &Row, peer: &str) -> String {
    match row.over.get(peer) {
        Some(ratio) if row.rounds > 1 => format!(
            "{:.2} ({:.2}-{:.2})",
            ratio.of_medians, ratio.min, ratio.max
        ),
        Some(ratio) => format!("{:.2}", ratio.of_medians),
        None if row.server.name() == peer => "1".to_owned(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::tests::{comparison, with_rublk};
    use super::*;

    /// The cells of the line of `server`.
    fn line(text: &str, server: &str) -> String {
        let is_row = |line: &&str| {
            let mut cells = line.split(['│', '┆']).map(str::trim);
            cells.nth(2) == Some(server)
        };
        let line = text.lines().find(is_row).unwrap();
        let words = line.replace(['│', '┆'], " ");
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rows_show_figures_and_ratio() {
        let text = comparison(Ending::Complete).to_string();
        assert_eq!(
            line(&text, "pollux"),
            "1 pollux 8000 120.0 240.0 0.500 4.00 (2.00-4.00)"
        );
        assert_eq!(line(&text, "qemu"), "1 qemu 2000 450.0 900.0 1.000 1");
        assert!(text.contains("vduse-virtio: 4k randread"), "{text}");
        assert!(text.contains("2 requests failed"), "{text}");
        assert!(text.contains("rublk: left out"), "{text}");
    }

    #[test]
    fn both_peers_and_the_poll_queue_have_columns() {
        let text = with_rublk(Transport::VduseVirtioPoll).to_string();
        let setting = "pollux:irq-hold-us=0";
        assert_eq!(
            line(&text, setting),
            format!("1 {setting} 5000 200.0 400.0 0.500 2.50 1.25 100/0/1")
        );
        assert_eq!(line(&text, "rublk"), "1 rublk 4000 250.0 500.0 - 2.00 1 -");
        assert!(text.contains("--hipri"), "{text}");
        let plain = with_rublk(Transport::VduseVirtio).to_string();
        assert!(!plain.contains("poll queue"), "{plain}");
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
