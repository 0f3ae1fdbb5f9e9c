//! The whole result: raw values, the machine, and the medians drawn from them.

use std::collections::BTreeMap;
use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::cpus::Placement;
use crate::environment::Environment;
use crate::fio::Pattern;
use crate::load::LoadResult;
use crate::server::{Counters, ServerKind, Variant};
use crate::statistics::median;
use crate::transport::Transport;

/// Grows when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 2;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// How the servers were reached. The first files do not say: there was one way.
    #[serde(default)]
    pub transport: Transport,
    /// Servers, in the order of a round.
    pub servers: Vec<Variant>,
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
    /// Poll mode of pollux that was asked for; none for what suits the transport.
    pub poll: Option<String>,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Counted from 1.
    pub round: u32,
    /// Who served.
    pub server: Variant,
    /// Requests kept in flight.
    pub iodepth: u32,
    /// What the load measured.
    pub load: LoadResult,
    /// By the server's own counters, over this point; none where it keeps none.
    pub interrupts_per_request: Option<f64>,
    /// Counters of the queue that fio polled, ramp time included; none where it polled none.
    pub poll_queue: Option<Counters>,
}

/// Interrupts of a server without counters, under an untimed load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterruptsCounted {
    /// Who served.
    pub server: Variant,
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
    pub server: Variant,
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
    /// Its IOPS over those of each peer, whatever is not pollux, by that one's name.
    pub over: BTreeMap<String, Ratio>,
    /// What the queue that fio polled counted in all rounds together; none where it polled none.
    pub poll_queue: Option<Counters>,
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

impl Settings {
    /// Whom servers are held against: each that is not pollux.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Variant> {
        let is_peer = |server: &&Variant| server.kind() != ServerKind::Pollux;
        self.servers.iter().filter(is_peer)
    }
}

impl Comparison {
    pub(crate) fn new(
        started_unix_s: u64,
        environment: Environment,
        settings: Settings,
        points: Vec<Point>,
        interrupts_counted: Vec<InterruptsCounted>,
        ending: Ending,
    ) -> Self {
        let mut summary = Vec::new();
        for &iodepth in &settings.iodepths {
            for server in &settings.servers {
                let peers = settings.peers();
                summary.extend(row(&points, &interrupts_counted, server, iodepth, peers));
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

fn row<'a>(
    points: &[Point],
    counted: &[InterruptsCounted],
    server: &Variant,
    iodepth: u32,
    peers: impl Iterator<Item = &'a Variant>,
) -> Option<Row> {
    let at_depth = || points.iter().filter(|point| point.iodepth == iodepth);
    let own_points: Vec<&Point> = at_depth().filter(|it| it.server == *server).collect();
    let own_points = || own_points.iter().copied();
    let middle = |value: fn(&Point) -> f64| median(own_points().map(value).collect());
    let own = own_points()
        .map(|point| point.interrupts_per_request)
        .collect::<Option<Vec<f64>>>();
    let traced = || {
        let count = counted
            .iter()
            .find(|c| c.server == *server && c.iodepth == iodepth)?;
        count.interrupts_per_request
    };
    let iops = middle(|point| point.load.iops)?;
    let over = |peer: &Variant| {
        let of_peer = || at_depth().filter(|point| point.server == *peer);
        let peer_iops = median(of_peer().map(|point| point.load.iops).collect())?;
        let quotients = own_points().filter_map(|point| {
            let beside = of_peer().find(|it| it.round == point.round)?;
            Some(point.load.iops / beside.load.iops)
        });
        Some(Ratio {
            of_medians: iops / peer_iops,
            min: quotients.clone().fold(f64::INFINITY, f64::min),
            max: quotients.fold(0.0, f64::max),
        })
    };
    Some(Row {
        iodepth,
        server: server.clone(),
        rounds: own_points().count(),
        iops,
        p50_ns: middle(|point| point.load.latency_ns.p50 as f64)?,
        p99_ns: middle(|point| point.load.latency_ns.p99 as f64)?,
        interrupts_per_request: own.and_then(median).or_else(traced),
        errors: own_points().map(|point| point.load.errors).sum(),
        over: peers
            .filter(|peer| *peer != server)
            .filter_map(|peer| Some((peer.name(), over(peer)?)))
            .collect(),
        poll_queue: own_points()
            .filter_map(|point| point.poll_queue)
            .reduce(Counters::add),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::load::LatencyNs;

    pub(crate) fn point(round: u32, server: &str, iops: f64, p50: u64) -> Point {
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
        let server: Variant = server.parse().unwrap();
        let is_pollux = server.kind() == ServerKind::Pollux;
        Point {
            round,
            server,
            iodepth: 1,
            load,
            interrupts_per_request: is_pollux.then_some(0.5),
            poll_queue: is_pollux.then_some(Counters {
                requests: 100,
                interrupts: 0,
                kicks: u64::from(round == 1),
            }),
        }
    }

    /// Three rounds at depth 1.
    pub(crate) fn comparison(ending: Ending) -> Comparison {
        let points = vec![
            point(1, "pollux", 8000.0, 120_000),
            point(1, "qemu", 2000.0, 450_000),
            point(2, "pollux", 4000.0, 240_000),
            point(2, "qemu", 2000.0, 460_000),
            point(3, "pollux", 9000.0, 110_000),
            point(3, "qemu", 2500.0, 400_000),
        ];
        with_points(&["pollux", "qemu"], points, ending)
    }

    /// Two settings of pollux beside both peers, in one round.
    pub(crate) fn with_rublk(transport: Transport) -> Comparison {
        let points = vec![
            point(1, "pollux", 8000.0, 120_000),
            point(1, "pollux:irq-hold-us=0", 5000.0, 200_000),
            point(1, "qemu", 2000.0, 450_000),
            point(1, "rublk", 4000.0, 250_000),
        ];
        let servers = ["pollux", "pollux:irq-hold-us=0", "qemu", "rublk"];
        let mut comparison = with_points(&servers, points, Ending::Complete);
        comparison.settings.transport = transport;
        comparison
    }

    pub(crate) fn with_points(servers: &[&str], points: Vec<Point>, ending: Ending) -> Comparison {
        let counted = InterruptsCounted {
            server: ServerKind::Qemu.into(),
            iodepth: 1,
            interrupts_per_request: Some(1.0),
            reason: None,
        };
        let settings = Settings {
            transport: Transport::VduseVirtio,
            servers: servers.iter().map(|it| it.parse().unwrap()).collect(),
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
            poll: None,
        };
        let environment = Environment::look();
        Comparison::new(0, environment, settings, points, vec![counted], ending)
    }

    #[test]
    fn rows_are_medians_and_ratios() {
        let comparison = comparison(Ending::Complete);
        let [pollux, qemu] = comparison.summary.as_slice() else {
            panic!("{comparison:?}")
        };
        assert_eq!(
            (pollux.server.kind(), pollux.iops, pollux.p50_ns),
            (ServerKind::Pollux, 8000.0, 120_000.0)
        );
        assert_eq!(
            (pollux.p99_ns, pollux.errors, pollux.rounds),
            (240_000.0, 1, 3)
        );
        assert_eq!(pollux.interrupts_per_request, Some(0.5));
        let ratio = |of_medians, min, max| Ratio {
            of_medians,
            min,
            max,
        };
        assert_eq!(pollux.over["qemu"], ratio(4.0, 2.0, 4.0));
        let polled = pollux.poll_queue.unwrap();
        assert_eq!(
            (polled.requests, polled.interrupts, polled.kicks),
            (300, 0, 1)
        );
        assert_eq!(
            (qemu.iops, qemu.interrupts_per_request),
            (2000.0, Some(1.0))
        );
        assert_eq!((qemu.over.len(), qemu.poll_queue), (0, None));
    }

    #[test]
    fn each_setting_has_a_row_and_a_ratio_to_each_peer() {
        let comparison = with_rublk(Transport::VduseVirtio);
        let rows = comparison.summary.iter().map(|row| {
            let of_medians = |peer| row.over.get(peer).map(|it: &Ratio| it.of_medians);
            let ratios = (of_medians("qemu"), of_medians("rublk"));
            (row.server.to_string(), ratios)
        });
        let expected = [
            ("pollux", (Some(4.0), Some(2.0))),
            ("pollux:irq-hold-us=0", (Some(2.5), Some(1.25))),
            ("qemu", (None, Some(0.5))),
            ("rublk", (Some(2.0), None)),
        ];
        let expected = expected.map(|(name, ratios)| (name.to_owned(), ratios));
        assert_eq!(rows.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_depth_without_points_has_no_row() {
        let qemu = ServerKind::Qemu.into();
        assert_eq!(row(&[], &[], &qemu, 1, [].iter()), None);
        let peers = [ServerKind::Rublk.into()];
        let alone = row(&[point(1, "qemu", 5.0, 1)], &[], &qemu, 1, peers.iter()).unwrap();
        assert_eq!((alone.over.len(), alone.interrupts_per_request), (0, None));
    }

    #[test]
    fn the_json_holds_every_raw_value_and_the_machine() {
        let json = serde_json::to_value(comparison(Ending::Failed("why".to_owned()))).unwrap();
        assert_eq!(json["schema"], 2);
        assert_eq!(json["ending"]["failed"], "why");
        assert_eq!(json["settings"]["transport"], "vduse-virtio");
        assert_eq!(json["points"][1]["server"], "qemu");
        assert_eq!(json["points"][1]["load"]["latency_ns"]["p50"], 450_000);
        assert_eq!(json["points"][0]["poll_queue"]["kicks"], 1);
        assert!(json["environment"]["kernel"].is_string());
        assert_eq!(json["summary"][0]["over"]["qemu"]["of_medians"], 4.0);
    }
}
