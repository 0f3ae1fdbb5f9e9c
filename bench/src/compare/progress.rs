//! What runs now and how much is left, one line a point on standard error.

use std::time::{Duration, Instant};

use super::Plan;
use crate::server::Variant;

/// Load for counting interrupts, where nothing is timed.
pub(super) const COUNT_TIME: Duration = Duration::from_secs(2);
/// First guess of what a point costs beside its load: starts, stops, fio's own start.
const OVERHEAD: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    points_done: u32,
    points: u32,
    rounds: u32,
    /// Characters of the longest name.
    name_width: usize,
    expected: Duration,
    counting: Duration,
    line_open: bool,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        let a_round = plan.servers.len() * plan.iodepths.len();
        let points = plan
            .rounds
            .saturating_mul(u32::try_from(a_round).unwrap_or(u32::MAX));
        let counted = plan.counted().count();
        let counts = u32::try_from(counted * plan.iodepths.len()).unwrap_or(u32::MAX);
        Self {
            start: Instant::now(),
            points_done: 0,
            points,
            rounds: plan.rounds,
            name_width: plan
                .servers
                .iter()
                .map(|it| it.name().len())
                .max()
                .unwrap_or(0),
            expected: plan.runtime + plan.ramp_time + OVERHEAD,
            counting: (COUNT_TIME + OVERHEAD).saturating_mul(counts),
            line_open: false,
        }
    }

    pub(super) fn begins(&mut self, round: u32, server: &Variant, iodepth: u32) {
        self.line_open = true;
        eprint!(
            "[{}/{}] round {round} of {}, {:width$} QD {iodepth:<4} about {} s left ",
            self.points_done + 1,
            self.points,
            self.rounds,
            server.name(),
            self.left().as_secs(),
            width = self.name_width,
        );
    }

    pub(super) fn ends(&mut self, iops: f64) {
        self.points_done += 1;
        self.line_open = false;
        eprintln!("{iops:>12.0} IOPS");
    }

    pub(super) fn counts(&self, server: &Variant, iodepth: u32) {
        eprintln!(
            "[untimed] counting interrupts of {} QD {iodepth}",
            server.name()
        );
    }

    fn left(&self) -> Duration {
        let each = match self.points_done {
            0 => self.expected,
            done => self.start.elapsed() / done,
        };
        each.saturating_mul(self.points.saturating_sub(self.points_done)) + self.counting
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.line_open {
            eprintln!("not finished");
        }
        eprintln!("ended after {} s", self.start.elapsed().as_secs());
    }
}
