//! A comparison of servers as a section of the report.

mod figures;
mod tables;

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::model::Section;
use crate::compare::{Comparison, Ending, Point, Settings};
use crate::cpus;
use crate::environment::Environment;
use crate::server::Variant;
use crate::statistics::median;
use crate::transport::Transport;

pub(super) use tables::overview;

/// Converts what was read from `path`.
pub(super) fn section(path: &Path, comparison: &Comparison) -> Section {
    let settings = &comparison.settings;
    let notes = comparison.notes();
    Section {
        title: format!(
            "{}: {} {} {}",
            settings.transport,
            settings.bs,
            settings.rw,
            settings.disks()
        ),
        source: path.display().to_string(),
        facts: facts(comparison),
        notes: notes
            .iter()
            .map(|note| note.trim_start_matches("- ").to_owned())
            .collect(),
        figures: figures::all(comparison),
        summary: tables::summary(comparison),
        details: tables::details(comparison),
    }
}

fn facts(comparison: &Comparison) -> Vec<(String, String)> {
    let Settings {
        runtime_ms,
        ramp_time_ms,
        rounds,
        cpus,
        size_bytes,
        poll,
        ..
    } = &comparison.settings;
    let ending = match &comparison.ending {
        Ending::Complete => String::new(),
        Ending::Stopped => ", stopped on request".to_owned(),
        Ending::Failed(reason) => format!(", then failed: {reason}"),
    };
    let finished = comparison.points.iter().map(|point| point.round).max();
    let facts = [
        ("Taken", taken(comparison.started_unix_s)),
        ("Machine", comparison.environment.line()),
        ("Programs", programs(&comparison.environment)),
        (
            "Rounds",
            format!(
                "{} of {rounds}, {runtime_ms} ms a point after {ramp_time_ms} ms of load{ending}",
                finished.unwrap_or(0)
            ),
        ),
        (
            "CPUs",
            format!(
                "server on {}, load on {}",
                cpus::join(&cpus.server),
                cpus::join(&cpus.fio)
            ),
        ),
        ("Null disk", format!("{size_bytes} bytes")),
        (
            "Poll mode",
            poll.clone()
                .unwrap_or_else(|| "what suits the transport".to_owned()),
        ),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// The time in UTC; as a number where it has no year of four digits.
fn taken(started_unix_s: u64) -> String {
    const YEAR_10000_UNIX_S: u64 = 253_402_300_800;
    match started_unix_s < YEAR_10000_UNIX_S {
        true => {
            let time = UNIX_EPOCH + Duration::from_secs(started_unix_s);
            humantime::format_rfc3339_seconds(time).to_string()
        }
        false => format!("{started_unix_s} s after 1970"),
    }
}

/// The versions that a result names.
pub(super) fn programs(environment: &Environment) -> String {
    let Environment {
        pollux,
        fio,
        qemu_storage_daemon,
        rublk,
        ..
    } = environment;
    let others = [fio, qemu_storage_daemon, rublk]
        .into_iter()
        .flatten()
        .cloned();
    let all: Vec<String> = std::iter::once(format!("pollux {pollux}"))
        .chain(others)
        .collect();
    all.join("; ")
}

/// What people call a transport.
pub(super) fn through(transport: Transport) -> &'static str {
    match transport {
        Transport::VduseVirtio => "`/dev/vdX`",
        Transport::VduseVirtioPoll => "`/dev/vdX`, poll queue",
        Transport::VduseVhost => "`/dev/vhost-vdpa-N`",
        Transport::VhostUser => "vhost-user",
    }
}

impl Comparison {
    /// The points of one server at one depth, in the order of the rounds.
    fn points_of<'a>(
        &'a self,
        server: &'a Variant,
        iodepth: u32,
    ) -> impl Iterator<Item = &'a Point> + Clone {
        let points = self.points.iter();
        points.filter(move |point| point.server == *server && point.iodepth == iodepth)
    }

    /// The median of something over the rounds of one server at one depth.
    fn median_of(
        &self,
        server: &Variant,
        iodepth: u32,
        value: impl Fn(&Point) -> f64,
    ) -> Option<f64> {
        median(self.points_of(server, iodepth).map(value).collect())
    }

    /// IOPS of one server and of another in each round that has both.
    fn pairs(&self, server: &Variant, peer: &Variant, iodepth: u32) -> Vec<(f64, f64)> {
        let pair = |own: &Point| {
            let mut of_peer = self.points_of(peer, iodepth);
            let beside = of_peer.find(|it| it.round == own.round)?;
            Some((own.load.iops, beside.load.iops))
        };
        self.points_of(server, iodepth).filter_map(pair).collect()
    }
}

/// The smallest and the largest; none of none.
fn range(values: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64)> {
    let low = values.clone().reduce(f64::min)?;
    Some((low, values.reduce(f64::max)?))
}
