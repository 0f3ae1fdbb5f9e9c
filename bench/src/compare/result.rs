//! The whole result: raw values, the machine, and the medians drawn from them.

use serde::{Deserialize, Serialize};

use crate::cpus::Placement;
use crate::environment::Environment;
use crate::fio::{LoadResult, Pattern};
use crate::server::ServerKind;

/// Grows when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// Everything that a comparison found out.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Version of this format.
    pub schema: u32,
    /// Start of the run, seconds since 1970 UTC.
    pub started_unix_s: u64,
    /// Whether all rounds are in it.
    pub ending: Ending,
    /// The machine.
    pub environment: Environment,
    /// What was asked for.
    pub settings: Settings,
    /// Medians by depth and server.
    pub summary: Vec<Row>,
    /// Every value of every finished round, in the order of measurement.
    pub points: Vec<Point>,
    /// Interrupts counted apart from the timed rounds.
    pub interrupts_counted: Vec<InterruptsCounted>,
}

/// How a comparison came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// All rounds were finished.
    Complete,
    /// The user stopped it.
    Stopped,
    /// A later round failed, for this reason.
    Failed(String),
}

/// What was compared, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Servers, in the order of a round.
    pub servers: Vec<ServerKind>,
    /// Queue depths, in the order of a round.
    pub iodepths: Vec<u32>,
    /// Access pattern.
    pub rw: Pattern,
    /// Block size as fio writes it.
    pub bs: String,
    /// Measured time of a point.
    pub runtime_ms: u64,
    /// Load before it.
    pub ramp_time_ms: u64,
    /// Rounds asked for.
    pub rounds: u32,
    /// CPUs of either side.
    pub cpus: Placement,
    /// Size of the null disk.
    pub size_bytes: u64,
    /// Poll mode of pollux.
    pub poll: String,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Counted from 1.
    pub round: u32,
    /// Who served.
    pub server: ServerKind,
    /// Requests kept in flight.
    pub iodepth: u32,
    /// What fio measured.
    pub load: LoadResult,
    /// By the server's own counters, over this point; none where it keeps none.
    pub interrupts_per_request: Option<f64>,
}

/// Interrupts of a server without counters, under an untimed load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterruptsCounted {
    /// Who served.
    pub server: ServerKind,
    /// Requests kept in flight.
    pub iodepth: u32,
    /// `VDUSE_VQ_INJECT_IRQ` calls by request; none where they could not be counted.
    pub interrupts_per_request: Option<f64>,
    /// Why not.
    pub reason: Option<String>,
}

/// Medians of one server at one depth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Requests kept in flight.
    pub iodepth: u32,
    /// Who served.
    pub server: ServerKind,
    /// Rounds that the medians are drawn from.
    pub rounds: usize,
    /// Requests a second.
    pub iops: f64,
    /// Median latency.
    pub p50_ns: f64,
    /// 99th percentile of the latency.
    pub p99_ns: f64,
    /// Interrupts by request.
    pub interrupts_per_request: Option<f64>,
    /// Requests that failed, in all rounds together.
    pub errors: u64,
    /// Its IOPS over those of qemu; none for qemu itself, and where qemu was not measured.
    pub over_qemu: Option<Ratio>,
}

/// One server's IOPS over another's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Quotient of the medians.
    pub of_medians: f64,
    /// Smallest quotient inside one round.
    pub min: f64,
    /// Largest quotient inside one round.
    pub max: f64,
}

impl Comparison {
    pub(super) fn new(
        started_unix_s: u64,
        environment: Environment,
        settings: Settings,
        points: Vec<Point>,
        interrupts_counted: Vec<InterruptsCounted>,
        ending: Ending,
    ) -> Self {
        let mut summary = Vec::new();
        for &iodepth in &settings.iodepths {
            for &server in &settings.servers {
                summary.extend(row(&points, &interrupts_counted, server, iodepth));
            }
        }
        let schema = SCHEMA;
        Self {
            schema,
            started_unix_s,
            ending,
            environment,
            settings,
            summary,
            points,
            interrupts_counted,
        }
    }
}

fn row(
    points: &[Point],
    counted: &[InterruptsCounted],
    server: ServerKind,
    iodepth: u32,
) -> Option<Row> {
    let of = |server| {
        points
            .iter()
            .filter(move |p| p.server == server && p.iodepth == iodepth)
    };
    let middle = |value: fn(&Point) -> f64| median(of(server).map(value).collect());
    let own = of(server)
        .map(|point| point.interrupts_per_request)
        .collect::<Option<Vec<f64>>>();
    let traced = || {
        let count = counted
            .iter()
            .find(|c| c.server == server && c.iodepth == iodepth)?;
        count.interrupts_per_request
    };
    let iops = middle(|point| point.load.iops)?;
    let quotients = of(server).filter_map(|point| {
        let qemu = of(ServerKind::Qemu).find(|qemu| qemu.round == point.round)?;
        Some(point.load.iops / qemu.load.iops)
    });
    let qemu_iops = median(of(ServerKind::Qemu).map(|point| point.load.iops).collect());
    let over_qemu = qemu_iops
        .filter(|_| server != ServerKind::Qemu)
        .map(|qemu| Ratio {
            of_medians: iops / qemu,
            min: quotients.clone().fold(f64::INFINITY, f64::min),
            max: quotients.clone().fold(0.0, f64::max),
        });
    Some(Row {
        iodepth,
        server,
        rounds: of(server).count(),
        iops,
        p50_ns: middle(|point| point.load.latency_ns.p50 as f64)?,
        p99_ns: middle(|point| point.load.latency_ns.p99 as f64)?,
        interrupts_per_request: own.and_then(median).or_else(traced),
        errors: of(server).map(|point| point.load.errors).sum(),
        over_qemu,
    })
}

/// The middle value, or the mean of the two in the middle; none of none.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    if values.len() % 2 == 1 {
        Some(upper)
    } else {
        Some((values[half - 1] + upper) / 2.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fio::LatencyNs;

    fn point(round: u32, server: ServerKind, iops: f64, p50: u64) -> Point {
        let latency_ns = LatencyNs {
            min: 1,
            mean: 1.0,
            p50,
            p90: p50,
            p99: 2 * p50,
            p999: 3 * p50,
            max: 9 * p50,
        };
        let load = LoadResult {
            iops,
            latency_ns,
            requests: 100,
            errors: u64::from(round == 2),
        };
        let interrupts_per_request = (server == ServerKind::Pollux).then_some(0.5);
        Point {
            round,
            server,
            iodepth: 1,
            load,
            interrupts_per_request,
        }
    }

    /// Three rounds at depth 1.
    pub(in crate::compare) fn comparison(ending: Ending) -> Comparison {
        use ServerKind::{Pollux, Qemu};
        let points = vec![
            point(1, Pollux, 8000.0, 120_000),
            point(1, Qemu, 2000.0, 450_000),
            point(2, Pollux, 4000.0, 240_000),
            point(2, Qemu, 2000.0, 460_000),
            point(3, Pollux, 9000.0, 110_000),
            point(3, Qemu, 2500.0, 400_000),
        ];
        let counted = InterruptsCounted {
            server: Qemu,
            iodepth: 1,
            interrupts_per_request: Some(1.0),
            reason: None,
        };
        let settings = Settings {
            servers: vec![Pollux, Qemu],
            iodepths: vec![1],
            rw: Pattern::RandRead,
            bs: "4k".to_owned(),
            runtime_ms: 4000,
            ramp_time_ms: 1000,
            rounds: 3,
            cpus: Placement {
                server: vec![1],
                fio: vec![0],
            },
            size_bytes: 1 << 30,
            poll: "busy".to_owned(),
        };
        Comparison::new(
            0,
            Environment::look(),
            settings,
            points,
            vec![counted],
            ending,
        )
    }

    #[test]
    fn rows_are_medians_and_ratios() {
        let comparison = comparison(Ending::Complete);
        let [pollux, qemu] = comparison.summary.as_slice() else {
            panic!("{comparison:?}")
        };
        assert_eq!(
            (pollux.server, pollux.iops, pollux.p50_ns),
            (ServerKind::Pollux, 8000.0, 120_000.0)
        );
        assert_eq!(
            (pollux.p99_ns, pollux.errors, pollux.rounds),
            (240_000.0, 1, 3)
        );
        assert_eq!(pollux.interrupts_per_request, Some(0.5));
        assert_eq!(
            pollux.over_qemu,
            Some(Ratio {
                of_medians: 4.0,
                min: 2.0,
                max: 4.0
            })
        );
        assert_eq!(
            (qemu.iops, qemu.interrupts_per_request),
            (2000.0, Some(1.0))
        );
        assert_eq!(qemu.over_qemu, None);
    }

    #[test]
    fn a_depth_without_points_has_no_row() {
        assert_eq!(row(&[], &[], ServerKind::Qemu, 1), None);
        let alone = row(
            &[point(1, ServerKind::Qemu, 5.0, 1)],
            &[],
            ServerKind::Qemu,
            1,
        )
        .unwrap();
        assert_eq!(
            (alone.over_qemu, alone.interrupts_per_request),
            (None, None)
        );
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn the_json_holds_every_raw_value_and_the_machine() {
        let json = serde_json::to_value(comparison(Ending::Failed("why".to_owned()))).unwrap();
        assert_eq!(json["schema"], 1);
        assert_eq!(json["ending"]["failed"], "why");
        assert_eq!(json["points"][1]["server"], "qemu");
        assert_eq!(json["points"][1]["load"]["latency_ns"]["p50"], 450_000);
        assert!(json["environment"]["kernel"].is_string());
        assert_eq!(json["summary"][0]["over_qemu"]["of_medians"], 4.0);
    }
}
