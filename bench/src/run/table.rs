//! The result as a table for people.

use std::fmt;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::{PointLoad, Row, Run};
use crate::compare::Ending;
use crate::scenario::{Format, Ring, Scenario};

impl fmt::Display for Run {
    /// What was measured where, the table, and notes on what a reader could take wrongly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario {
            name,
            backend,
            ring,
            rw,
            bs,
            runtime_ms,
            rounds,
            ..
        } = &self.scenario;
        writeln!(f, "{}", self.environment.line())?;
        writeln!(
            f,
            "{name}: {backend}, {rw} {bs}, {ring}, {rounds} rounds of {runtime_ms} ms, medians; client on CPU {}, \
             worker on CPU {}",
            self.cpus.client, self.cpus.worker
        )?;
        let trips = self.ping_pong.iter().map(|it| it.round_trip_ns.p50);
        let trips: Vec<String> = trips.map(|it| it.to_string()).collect();
        writeln!(
            f,
            "a cache line there and back between the two, p50 by round: {} ns",
            trips.join(", ")
        )?;
        writeln!(f, "{}", table(&self.summary))?;
        self.notes()
            .iter()
            .try_for_each(|note| writeln!(f, "{note}"))
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.format {
            Format::Split => "split",
            Format::Packed => "packed",
        };
        let chains = if self.indirect { "indirect" } else { "direct" };
        write!(
            f,
            "{format} ring of {} with {chains} descriptors",
            self.size
        )?;
        for (is_on, name) in [(self.event_idx, "event_idx"), (self.in_order, "in_order")] {
            if is_on {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header([
        "load",
        "IOPS",
        "best",
        "p50 ns",
        "best",
        "p50 in round trips",
        "p99 ns",
        "p99.9 ns",
        "worker CPU ns/request",
        "client CPU ns/request",
    ]);
    for row in rows {
        // Elsewhere requests wait for one another, or for the device.
        let is_alone = matches!(row.load, PointLoad::Closed { iodepth: 1 });
        table.add_row([
            row.load.to_string(),
            format!("{:.0}", row.iops),
            format!("{:.0}", row.iops_best),
            format!("{:.0}", row.p50_ns),
            format!("{:.0}", row.p50_best_ns),
            match is_alone {
                true => format!("{:.2}", row.p50_in_round_trips),
                false => "-".to_owned(),
            },
            format!("{:.0}", row.p99_ns),
            format!("{:.0}", row.p999_ns),
            format!("{:.1}", row.worker_cpu_ns_per_request),
            format!("{:.1}", row.client_cpu_ns_per_request),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl Run {
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let finished = self.points.iter().map(|it| it.round).max().unwrap_or(0);
        match &self.ending {
            Ending::Complete => {}
            Ending::Stopped => notes.push(format!(
                "stopped after {finished} of {} rounds",
                self.scenario.rounds
            )),
            Ending::Failed(reason) => notes.push(format!(
                "failed after {finished} of {} rounds: {reason}",
                self.scenario.rounds
            )),
        }
        let unfinished: u64 = self.points.iter().map(|it| it.unfinished).sum();
        if unfinished > 0 {
            notes.push(format!(
                "{unfinished} arrivals had not begun when their load was given up: it was more than the ring carries"
            ));
        }
        notes.extend(
            self.preflight
                .iter()
                .map(|it| format!("not clean: {}", it.text)),
        );
        if self.clean {
            notes.push("clean: nothing found that spoils figures".to_owned());
        }
        notes
    }
}
