//! The tables of a comparison.

use super::figures::PERCENTILES;
use super::through;
use crate::compare::{Comparison, Row};
use crate::report::model::{Column, Table};
use crate::report::number::{interrupts, significant, us};
use crate::server::{ServerKind, Variant};
use crate::statistics::{self, Interval};
use crate::transport::Transport;

/// The same intervals whenever a file is drawn.
const SEED: u64 = 0x706f_6c6c_7578;

/// Medians of every server at every depth, and its ratio to every peer.
pub(super) fn summary(comparison: &Comparison) -> Table {
    let settings = &comparison.settings;
    let polled = settings.transport == Transport::VduseVirtioPoll;
    let mut columns = vec![
        Column::numbers("QD"),
        Column::words("server"),
        Column::numbers("IOPS"),
        Column::numbers("p50 us"),
        Column::numbers("p99 us"),
        Column::numbers("interrupts/request"),
    ];
    if polled {
        columns.push(Column::words("poll queue: requests, interrupts, kicks"));
    }
    let peers: Vec<String> = settings.peers().map(Variant::name).collect();
    columns.extend(
        peers
            .iter()
            .map(|peer| Column::words(format!("ratio to {peer}"))),
    );
    let cells = |row: &Row| {
        let mut cells = vec![
            row.iodepth.to_string(),
            row.server.name(),
            format!("{:.0}", row.iops),
            us(row.p50_ns),
            us(row.p99_ns),
            interrupts(row.interrupts_per_request),
        ];
        if polled {
            cells.push(row.poll_queue.map_or(String::new(), |queue| {
                format!("{}, {}, {}", queue.requests, queue.interrupts, queue.kicks)
            }));
        }
        cells.extend(peers.iter().map(|peer| ratio(row, peer)));
        cells
    };
    Table {
        title: "Medians, and ratios (lowest-highest of one round)".to_owned(),
        columns,
        rows: comparison.summary.iter().map(cells).collect(),
    }
}

fn ratio(row: &Row, peer: &str) -> String {
    match row.over.get(peer) {
        Some(ratio) if row.rounds > 1 => {
            format!(
                "{:.2} ({:.2}-{:.2})",
                ratio.of_medians, ratio.min, ratio.max
            )
        }
        Some(ratio) => format!("{:.2}", ratio.of_medians),
        None if row.server.name() == peer => "1".to_owned(),
        None => "-".to_owned(),
    }
}

/// What else there is: percentiles, ratios with all of their intervals, and servers as they were written.
pub(super) fn details(comparison: &Comparison) -> Vec<Table> {
    let tables = [
        percentiles(comparison),
        ratios(comparison),
        servers(comparison),
    ];
    let has_rows = |table: &Table| !table.rows.is_empty();
    tables.into_iter().filter(has_rows).collect()
}

fn percentiles(comparison: &Comparison) -> Table {
    let mut columns = vec![Column::numbers("QD"), Column::words("server")];
    columns.extend(PERCENTILES.map(|(name, _)| Column::numbers(format!("{name} us"))));
    columns.push(Column::numbers("failed requests"));
    let cells = |row: &Row| {
        let mut cells = vec![row.iodepth.to_string(), row.server.name()];
        let middle = |value| comparison.median_of(&row.server, row.iodepth, value);
        cells.extend(PERCENTILES.map(|(_, value)| middle(value).map_or("-".to_owned(), us)));
        cells.push(row.errors.to_string());
        cells
    };
    Table {
        title: "Latency percentiles, medians of the rounds".to_owned(),
        columns,
        rows: comparison.summary.iter().map(cells).collect(),
    }
}

fn ratios(comparison: &Comparison) -> Table {
    let columns = vec![
        Column::numbers("QD"),
        Column::words("server"),
        Column::words("over"),
        Column::numbers("ratio of medians"),
        Column::numbers("lowest round"),
        Column::numbers("highest round"),
        Column::numbers("95 % interval"),
        Column::numbers("rounds"),
    ];
    let peers: Vec<&Variant> = comparison.settings.peers().collect();
    let mut rows = Vec::new();
    for row in &comparison.summary {
        for peer in &peers {
            let name = peer.name();
            let Some(ratio) = row.over.get(&name) else {
                continue;
            };
            let pairs = comparison.pairs(&row.server, peer, row.iodepth);
            let written = |interval: Interval| {
                format!(
                    "{}-{}",
                    significant(interval.low),
                    significant(interval.high)
                )
            };
            let interval = statistics::interval_of_ratio(&pairs, SEED);
            rows.push(vec![
                row.iodepth.to_string(),
                row.server.name(),
                name,
                significant(ratio.of_medians),
                significant(ratio.min),
                significant(ratio.max),
                interval.map_or("-".to_owned(), written),
                pairs.len().to_string(),
            ]);
        }
    }
    let title = "Ratios of IOPS: of one round, and the bootstrap's interval of the medians' ratio";
    Table {
        title: title.to_owned(),
        columns,
        rows,
    }
}

/// None where tables already say how each was started.
fn servers(comparison: &Comparison) -> Table {
    let labelled = comparison.settings.servers.iter();
    let row = |server: &Variant| vec![server.name(), server.to_string()];
    Table {
        title: "Servers as they were named".to_owned(),
        columns: vec![Column::words("server"), Column::words("as written")],
        rows: labelled
            .filter(|server| server.name() != server.to_string())
            .map(row)
            .collect(),
    }
}

/// Pollux as it is without options, over every transport that `comparisons` have, beside all of its peers.
pub(in crate::report) fn overview(comparisons: &[&Comparison]) -> Table {
    let pollux = Variant::from(ServerKind::Pollux);
    let mut peers: Vec<String> = Vec::new();
    for peer in comparisons.iter().flat_map(|it| it.settings.peers()) {
        if !peers.contains(&peer.name()) {
            peers.push(peer.name());
        }
    }
    let mut columns = vec![
        Column::words("through"),
        Column::numbers("QD"),
        Column::numbers("Pollux IOPS"),
        Column::numbers("p50 us"),
        Column::numbers("interrupts/request"),
    ];
    let called = |peer: &String| match peer.as_str() {
        "qemu" => "to qemu-storage-daemon".to_owned(),
        _ => format!("to {peer}"),
    };
    columns.extend(peers.iter().map(|peer| Column::numbers(called(peer))));
    let mut rows = Vec::new();
    for comparison in comparisons {
        let own = comparison.summary.iter().filter(|row| row.server == pollux);
        for (place, row) in own.enumerate() {
            let first = (place == 0).then(|| through(comparison.settings.transport));
            let mut cells = vec![
                first.unwrap_or_default().to_owned(),
                row.iodepth.to_string(),
                format!("{:.0}", row.iops),
                us(row.p50_ns),
                two_decimals(row.interrupts_per_request),
            ];
            cells.extend(peers.iter().map(|peer| {
                let ratio = row.over.get(peer);
                ratio.map_or(String::new(), |it| {
                    format!("{} x", two_or_three(it.of_medians))
                })
            }));
            rows.push(cells);
        }
    }
    Table {
        title: "Pollux beside its peers".to_owned(),
        columns,
        rows,
    }
}

fn two_decimals(interrupts: Option<f64>) -> String {
    match interrupts {
        None => "-".to_owned(),
        Some(value) if value < 0.005 => "0".to_owned(),
        Some(value) => format!("{value:.2}"),
    }
}

/// Below 10 with two decimals, so that all ratios near 1 are as exact.
fn two_or_three(ratio: f64) -> String {
    match ratio < 9.995 {
        true => format!("{ratio:.2}"),
        false => significant(ratio),
    }
}
