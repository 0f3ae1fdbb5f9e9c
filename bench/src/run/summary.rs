//! Medians over rounds, and the best round: a machine that others use is at its best now and then.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PingPong, Point, PointLoad};

/// What all rounds of one load come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The load; of an open one the arrivals are those of the first round.
    pub load: PointLoad,
    /// Rounds that are in it.
    pub rounds: usize,
    /// Requests a second, median.
    pub iops: f64,
    /// The same in the best round.
    pub iops_best: f64,
    /// Half of the requests took less, median.
    pub p50_ns: f64,
    /// The same in the best round.
    pub p50_best_ns: f64,
    /// 99 of 100 took less, median.
    pub p99_ns: f64,
    /// 999 of 1000 took less, median.
    pub p999_ns: f64,
    /// Median of `p50` as a multiple of the median round trip of a cache line in the same round.
    pub p50_in_round_trips: f64,
    /// CPU time of the worker a request, median.
    pub worker_cpu_ns_per_request: f64,
    /// CPU time of the client a request, median.
    pub client_cpu_ns_per_request: f64,
}

/// Returns a row for each load, in the order of a round.
pub(super) fn rows(points: &[Point], ping_pongs: &[PingPong]) -> Vec<Row> {
    let first = points.iter().take_while(|point| point.round == 1);
    first.map(|it| row(it.load, points, ping_pongs)).collect()
}

fn row(load: PointLoad, points: &[Point], ping_pongs: &[PingPong]) -> Row {
    let points: Vec<&Point> = points.iter().filter(|it| it.load.is_like(&load)).collect();
    let all = |value: &dyn Fn(&Point) -> f64| points.iter().map(|it| value(it)).collect::<Vec<_>>();
    let middle = |value: &dyn Fn(&Point) -> f64| median(all(value));
    let round_trip = |round: u32| {
        let same = ping_pongs.iter().find(|it| it.round == round);
        same.map_or(f64::NAN, |it| it.round_trip_ns.p50 as f64)
    };
    let p50 = |it: &Point| it.latency_ns.p50 as f64;
    Row {
        load,
        rounds: points.len(),
        iops: middle(&|it| it.iops),
        iops_best: all(&|it| it.iops).into_iter().fold(0.0, f64::max),
        p50_ns: middle(&p50),
        p50_best_ns: all(&p50).into_iter().fold(f64::INFINITY, f64::min),
        p99_ns: middle(&|it| it.latency_ns.p99 as f64),
        p999_ns: middle(&|it| it.latency_ns.p999 as f64),
        p50_in_round_trips: middle(&|it| p50(it) / round_trip(it.round)),
        worker_cpu_ns_per_request: middle(&|it| it.worker_cpu_ns_per_request),
        client_cpu_ns_per_request: middle(&|it| it.client_cpu_ns_per_request),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length => (values[(length - 1) / 2] + values[length / 2]) / 2.0,
    }
}
