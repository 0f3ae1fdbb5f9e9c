//! What runs now and how much is left, one line a point on standard error.

use std::time::{Duration, Instant};

/// What is measured, as far as time goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// Points of a round.
    pub(crate) points: usize,
    /// Rounds.
    pub(crate) rounds: u32,
    /// Of them those that were measured before.
    pub(crate) rounds_done: u32,
    /// Characters of the longest name of a point.
    pub(crate) name_width: usize,
    /// What a point will take.
    pub(crate) expected: Duration,
    /// What comes behind the points will take.
    pub(crate) rest: Duration,
}

#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    points_done: u32,
    points: u32,
    course: Course,
    line_open: bool,
}

impl Progress {
    pub(crate) fn new(course: Course) -> Self {
        let a_round = u32::try_from(course.points).unwrap_or(u32::MAX);
        Self {
            start: Instant::now(),
            points_done: 0,
            points: (course.rounds - course.rounds_done).saturating_mul(a_round),
            course,
            line_open: false,
        }
    }

    pub(crate) fn begins(&mut self, round: u32, name: &str) {
        self.line_open = true;
        eprint!(
            "[{}/{}] round {round} of {}, {name:width$} about {} s left ",
            self.points_done + 1,
            self.points,
            self.course.rounds,
            self.left().as_secs(),
            width = self.course.name_width,
        );
    }

    pub(crate) fn ends(&mut self, iops: f64) {
        self.points_done += 1;
        self.line_open = false;
        eprintln!("{iops:>12.0} IOPS");
    }

    pub(crate) fn untimed(&self, what: &str) {
        eprintln!("[untimed] {what}");
    }

    fn left(&self) -> Duration {
        let each = match self.points_done {
            0 => self.course.expected,
            done => self.start.elapsed() / done,
        };
        each.saturating_mul(self.points.saturating_sub(self.points_done)) + self.course.rest
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
