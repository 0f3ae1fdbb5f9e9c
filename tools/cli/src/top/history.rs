//! What a device did in the last minute.

use std::collections::VecDeque;

/// How far back is shown.
pub(crate) const WINDOW_S: f64 = 60.0;

/// The mean IOPS between two samples.
#[derive(Clone, Copy, Debug)]
struct Point {
    from_s: f64,
    to_s: f64,
    iops: f64,
}

/// IOPS of the last minute.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<Point>);

impl History {
    /// Notes what happened in the `seconds` before `now_s`.
    pub(crate) fn push(&mut self, now_s: f64, seconds: f64, iops: f64) {
        self.0.push_back(Point {
            from_s: now_s - seconds,
            to_s: now_s,
            iops,
        });
    }

    /// Forgets what is over a minute ago. Returns whether anything is left.
    pub(crate) fn prune(&mut self, now_s: f64) -> bool {
        self.0.retain(|point| point.to_s > now_s - WINDOW_S);
        !self.0.is_empty()
    }

    /// Returns the last minute before `now_s` in `width` columns, the oldest first; `None` where nothing is known.
    pub(crate) fn columns(&self, now_s: f64, width: usize) -> Vec<Option<u64>> {
        let span_s = WINDOW_S / width.max(1) as f64;
        let begin_s = now_s - WINDOW_S;
        (0..width)
            .map(|column| {
                let from_s = begin_s + column as f64 * span_s;
                self.mean(from_s, from_s + span_s)
            })
            .collect()
    }

    /// Returns the mean over the part of this time that is known.
    fn mean(&self, from_s: f64, to_s: f64) -> Option<u64> {
        let (mut known_s, mut requests) = (0.0, 0.0);
        for point in &self.0 {
            let shared_s = point.to_s.min(to_s) - point.from_s.max(from_s);
            if shared_s > 0.0 {
                known_s += shared_s;
                requests += shared_s * point.iops;
            }
        }
        (known_s > 0.0).then(|| (requests / known_s).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_the_mean_of_its_time() {
        let mut history = History::default();
        history.push(70.0, 1.0, 100.0);
        history.push(71.0, 1.0, 300.0);
        let columns = history.columns(71.0, 60);
        assert_eq!(columns[57..], [None, Some(100), Some(300)]);
        // 12 s a column: both seconds are in the last one.
        assert_eq!(
            history.columns(71.0, 5),
            [None, None, None, None, Some(200)]
        );
        // Half a second a column.
        assert_eq!(
            history.columns(71.0, 120)[115..],
            [None, Some(100), Some(100), Some(300), Some(300)]
        );
        assert!(history.columns(71.0, 0).is_empty());
    }

    #[test]
    fn a_minute_later_nothing_is_left() {
        let mut history = History::default();
        history.push(1.0, 1.0, 5.0);
        assert!(history.prune(60.5));
        assert!(!history.prune(61.0));
    }
}
