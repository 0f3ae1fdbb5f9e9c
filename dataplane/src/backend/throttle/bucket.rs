//! A token bucket in one atomic number, for any number of threads that neither wait for each other nor lock.
//!
//! The number is the time at which the bucket is full again (a virtual time, as in the generic cell rate algorithm):
//! what is taken moves it on by what the rate needs to put it back.

use std::sync::atomic::{AtomicU64, Ordering};

/// Ticks of a nanosecond, so that a byte at a high rate is not rounded to none or two. The time ends after 36 years.
pub(super) const TICKS_PER_NS: u64 = 16;

/// How much may pass in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; at least one.
    pub per_second: u64,
    /// At once, after a rest; at least one.
    pub burst: u64,
}

impl Rate {
    /// Returns a rate whose burst is what passes in a tenth of a second, as in QEMU.
    pub fn new(per_second: u64) -> Self {
        Self {
            per_second,
            burst: per_second.div_ceil(10),
        }
    }
}

/// A bucket, which begins full.
#[derive(Debug)]
pub(super) struct Bucket {
    ticks_per_unit: f64,
    burst: u64,
    full_at: AtomicU64,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        let ticks_per_second = (1_000_000_000 * TICKS_PER_NS) as f64;
        Self {
            ticks_per_unit: ticks_per_second / rate.per_second.max(1) as f64,
            burst: rate.burst.max(1),
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes `units` at `now`. Returns the time, in ticks, from when on they may be used: now, or when the rate has
    /// put in what lacks. What is more than a full bucket may be used once it is full; those who come next wait for it.
    pub(super) fn take(&self, units: u64, now: u64) -> u64 {
        let cost = self.ticks(units);
        let left = self.ticks(self.burst.saturating_sub(units));
        let taken = |full_at: u64| Some(full_at.max(now).saturating_add(cost));
        // Nothing else is shared through it.
        let (Ok(before) | Err(before)) =
            self.full_at
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        before.max(now).saturating_sub(left).max(now)
    }

    fn ticks(&self, units: u64) -> u64 {
        (units as f64 * self.ticks_per_unit) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000 * TICKS_PER_NS;

    #[test]
    fn a_burst_passes_at_once_and_then_one_at_a_time() {
        let bucket = Bucket::new(Rate {
            per_second: 100,
            burst: 5,
        });
        for now in [0, 1000 * SECOND] {
            for _ in 0..5 {
                assert_eq!(bucket.take(1, now), now);
            }
            for later in 1..=3 {
                assert_eq!(bucket.take(1, now), now + later * SECOND / 100);
            }
        }
    }

    #[test]
    fn what_is_larger_than_the_bucket_passes_once_that_is_full() {
        let bucket = Bucket::new(Rate {
            per_second: 1000,
            burst: 10,
        });
        assert_eq!(bucket.take(500, 0), 0);
        assert_eq!(bucket.take(1, 0), SECOND * 491 / 1000);
        // The bucket is full when what was taken has been put back.
        assert_eq!(bucket.take(500, 0), SECOND * 501 / 1000);
    }

    #[test]
    fn no_time_is_too_long() {
        let bucket = Bucket::new(Rate {
            per_second: 1,
            burst: 1,
        });
        assert_eq!(bucket.take(u64::MAX, 0), 0);
        assert!(bucket.take(u64::MAX, 0) > 1 << 63);
        assert!(bucket.take(1, 0) > 1 << 63);
    }

    proptest! {
        /// In any stretch of time no more passes than the rate and a burst, and one request more; and no less than
        /// the rate, while there are always some that wait.
        #[test]
        fn what_passes_is_bounded_from_both_sides(
            per_second in 1_u64..10_000_000_000,
            burst in 1_u64..10_000_000,
            sizes in prop::collection::vec(1_u64..1 << 20, 2..200),
            start in 0_u64..1 << 60,
        ) {
            let bucket = Bucket::new(Rate { per_second, burst });
            let mut passed = Vec::new();
            let mut now = start;
            for size in sizes {
                now = bucket.take(size, now);
                passed.push((now, size));
            }
            for first in 0..passed.len() {
                let mut units = 0;
                for &(at, size) in &passed[first..] {
                    let allowed = (at - passed[first].0) as f64 / SECOND as f64 * per_second as f64;
                    // Each take is rounded by less than a tick of the rate.
                    let rounded = passed.len() as f64 * per_second as f64 / SECOND as f64;
                    let burst = burst as f64;
                    let largest = (1 << 20) as f64;
                    prop_assert!(units as f64 <= allowed + burst + largest + rounded);
                    units += size;
                }
            }
            let all: u64 = passed[..passed.len() - 1].iter().map(|(_, size)| size).sum();
            let took = (now - start) as f64 / SECOND as f64 * per_second as f64;
            prop_assert!(took <= all as f64 + 1.0, "{took} of {all}");
        }
    }
}
