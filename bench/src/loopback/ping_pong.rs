//! What the machine gives at best: one cache line that two CPUs write in turn.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use hdrhistogram::Histogram;
use quanta::Clock;

use super::{LoopbackError, pin};
use crate::cpus::CpuError;

/// Time before the first round trip that counts.
const WARM_UP_NS: u64 = 5_000_000;
/// Time of round trips that count.
const TIMED_NS: u64 = 60_000_000;
/// More would be a machine that does something else.
const LATENCY_NS_MAX: u64 = 1_000_000_000;

/// Alone in its cache line, and in the one that is fetched with it.
#[repr(align(128))]
struct Line(AtomicU64);

/// Returns the round trips in ns from CPU `here` to CPU `there` and back, each timed by itself with the clock
/// that requests are timed with.
///
/// # Errors
/// A CPU that cannot be used.
pub(crate) fn ping_pong(
    here: usize,
    there: usize,
    clock: &Clock,
) -> Result<Histogram<u64>, LoopbackError> {
    let line = Line(AtomicU64::new(0));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let pong = scope.spawn(|| answer(there, &line, &ended));
        let ping = scope.spawn(|| {
            let timed = ask(here, &line, &ended, clock);
            ended.store(true, Ordering::Relaxed);
            timed
        });
        let timed = ping.join().map_err(|_| LoopbackError::Ended)?;
        pong.join().map_err(|_| LoopbackError::Ended)??;
        Ok(timed?)
    })
}

/// Odd numbers go there, even ones come back.
fn ask(
    cpu: usize,
    line: &Line,
    ended: &AtomicBool,
    clock: &Clock,
) -> Result<Histogram<u64>, CpuError> {
    pin(cpu)?;
    let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
    let mut histogram = histogram.expect("constant bounds that the crate allows");
    let started = clock.raw();
    let mut asked = 1;
    loop {
        let begun = clock.raw();
        line.0.store(asked, Ordering::Release);
        while line.0.load(Ordering::Acquire) == asked {
            if ended.load(Ordering::Relaxed) {
                return Ok(histogram);
            }
        }
        asked += 2;
        let now = clock.raw();
        let elapsed = clock.delta_as_nanos(started, now);
        if elapsed >= WARM_UP_NS {
            let taken = clock.delta_as_nanos(begun, now);
            // In range by the clamp, so it never fails.
            let _ = histogram.record(taken.clamp(1, LATENCY_NS_MAX));
        }
        if elapsed >= WARM_UP_NS + TIMED_NS {
            return Ok(histogram);
        }
    }
}

fn answer(cpu: usize, line: &Line, ended: &AtomicBool) -> Result<(), CpuError> {
    if let Err(error) = pin(cpu) {
        ended.store(true, Ordering::Relaxed);
        return Err(error);
    }
    let mut asked = 1;
    while !ended.load(Ordering::Relaxed) {
        if line.0.load(Ordering::Acquire) == asked {
            line.0.store(asked + 1, Ordering::Release);
            asked += 2;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus::Placement;

    #[test]
    fn a_round_trip_takes_time_and_an_unusable_cpu_ends_it() {
        let Ok(cpus) = Placement::choose(&[], &[]) else {
            // One CPU has nobody to play with.
            return;
        };
        let clock = Clock::new();
        let timed = ping_pong(cpus.fio[0], cpus.server[0], &clock).unwrap();
        assert!(!timed.is_empty());
        assert!(timed.value_at_quantile(0.5) > 5, "{}", timed.mean());
        for (here, there) in [(cpus.fio[0], 1 << 20), (1 << 20, cpus.server[0])] {
            assert!(ping_pong(here, there, &clock).is_err());
        }
    }
}
