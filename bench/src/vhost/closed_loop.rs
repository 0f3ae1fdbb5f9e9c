//! The loop of the load: each read that completes is replaced at once. One read in eight is timed, so that the
//! loop itself is not what is measured: the clock costs as much as a read where a machine is emulated. It is the TSC where
//! that is steady: user-mode Linux has no vDSO, so that the time of day is a system call of microseconds there.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use quanta::Instant;

use super::RandomReads;
use crate::load::{LatencyNs, LoadResult};

/// A device that is silent for so long is given up.
const STALL: Duration = Duration::from_secs(10);
/// Passes without a completion between two looks at the clock.
const IDLE_PASSES: u32 = 1 << 14;
/// Time between two looks at the signals, which cost a system call.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// One read in this many is timed.
const TIMED_EVERY: u32 = 8;
/// Longest latency told apart from longer ones.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Decimal places that a latency is kept with.
const DIGITS: u8 = 3;

/// A read that has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) slot: u16,
    pub(super) is_error: bool,
}

/// What reads are put into.
pub(super) trait Queue {
    /// Puts a read at `offset` bytes in, which must be a multiple of the block size.
    fn read(&mut self, slot: u16, offset: u64) -> io::Result<()>;

    /// Tells the device of the reads put in since, where it wants to be told.
    fn kick(&mut self) -> io::Result<()>;

    /// Adds what has completed to `done`.
    fn completed(&mut self, done: &mut Vec<Done>);
}

/// Why the loop ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoopError {
    #[error("no completion for {0} s")]
    Stalled(u64),
    #[error("stopped")]
    Stopped,
    #[error("nothing measured")]
    Nothing,
    #[error(transparent)]
    Queue(#[from] io::Error),
}

/// Block numbers without a pattern: xorshift64.
#[derive(Debug)]
struct Offsets {
    state: u64,
    blocks: u64,
    block_bytes: u64,
}

impl Offsets {
    fn new(reads: &RandomReads) -> Self {
        let block_bytes = u64::from(reads.block_bytes);
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
            blocks: (reads.disk_bytes / block_bytes).max(1),
            block_bytes,
        }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // The upper half of a product instead of a division.
        let block = (u128::from(self.state) * u128::from(self.blocks)) >> 64;
        block as u64 * self.block_bytes
    }
}

/// Keeps `reads.iodepth` reads in flight, waits for the last of them, and returns what was measured.
pub(super) fn run(
    queue: &mut impl Queue,
    reads: &RandomReads,
    stop: impl Fn() -> bool,
) -> Result<LoadResult, LoopError> {
    let mut looping = Loop::new(queue, reads, stop);
    looping.fill()?;
    looping.go_on_until(looping.started + reads.ramp_time)?;
    looping.measured_from = Some(looping.now);
    looping.go_on_until(looping.now + reads.runtime)?;
    let result = looping.result()?;
    looping.drain()?;
    Ok(result)
}

struct Loop<'a, Q, S> {
    queue: &'a mut Q,
    stop: S,
    offsets: Offsets,
    /// When the read in each slot was submitted, if it is timed.
    submitted: Vec<Option<Instant>>,
    /// Reads until the next one that is timed.
    untimed: u32,
    /// What the last pass found, and the latencies of that.
    done: Vec<Done>,
    latencies_ns: Vec<u64>,
    /// Reads that completed while it was measured.
    requests: u64,
    started: Instant,
    /// When the clock was last looked at.
    now: Instant,
    looked: Instant,
    measured_from: Option<Instant>,
    latencies: Histogram<u64>,
    errors: u64,
}

impl<'a, Q: Queue, S: Fn() -> bool> Loop<'a, Q, S> {
    fn new(queue: &'a mut Q, reads: &RandomReads, stop: S) -> Self {
        let iodepth = reads.iodepth as usize;
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
        let now = Instant::now();
        Self {
            queue,
            stop,
            offsets: Offsets::new(reads),
            submitted: vec![None; iodepth],
            untimed: 0,
            requests: 0,
            done: Vec::with_capacity(iodepth),
            latencies_ns: Vec::with_capacity(iodepth),
            started: now,
            now,
            looked: now,
            measured_from: None,
            latencies: latencies.expect("constant bounds that the crate allows"),
            errors: 0,
        }
    }

    fn fill(&mut self) -> Result<(), LoopError> {
        for slot in 0..self.submitted.len() {
            self.queue.read(slot as u16, self.offsets.next())?;
        }
        Ok(self.queue.kick()?)
    }

    /// Replaces what completes, until a read that is timed completes at `end` or later.
    fn go_on_until(&mut self, end: Instant) -> Result<(), LoopError> {
        while self.now < end {
            self.wait()?;
            for index in 0..self.done.len() {
                let slot = self.done[index].slot;
                self.replace(slot)?;
            }
            self.queue.kick()?;
            self.keep();
        }
        Ok(())
    }

    /// Ends the read in `slot` and begins another.
    fn replace(&mut self, slot: u16) -> Result<(), LoopError> {
        let place = usize::from(slot);
        if let Some(begun) = self.submitted[place].take() {
            self.now = Instant::now();
            let latency = self.now.duration_since(begun).as_nanos() as u64;
            self.latencies_ns.push(latency);
            self.look(self.now)?;
        }
        if self.untimed == 0 {
            self.untimed = TIMED_EVERY;
            self.submitted[place] = Some(Instant::now());
        }
        self.untimed -= 1;
        Ok(self.queue.read(slot, self.offsets.next())?)
    }

    /// Counts what has completed, while the device has its next reads already.
    fn keep(&mut self) {
        if self.measured_from.is_some() {
            self.requests += self.done.len() as u64;
            for &latency in &self.latencies_ns {
                self.latencies.saturating_record(latency);
            }
            let failed = self.done.iter().filter(|done| done.is_error);
            self.errors += failed.count() as u64;
        }
        self.latencies_ns.clear();
    }

    /// Polls until something has completed.
    fn wait(&mut self) -> Result<(), LoopError> {
        self.done.clear();
        let mut idle = 0_u32;
        loop {
            self.queue.completed(&mut self.done);
            if !self.done.is_empty() {
                return Ok(());
            }
            idle += 1;
            if idle == IDLE_PASSES {
                idle = 0;
                let now = Instant::now();
                self.look(now)?;
                if now.duration_since(self.now) > STALL {
                    return Err(LoopError::Stalled(STALL.as_secs()));
                }
            }
        }
    }

    /// Looks whether the user wants it to end.
    fn look(&mut self, now: Instant) -> Result<(), LoopError> {
        if now.duration_since(self.looked) >= LOOK_AGAIN {
            self.looked = now;
            if (self.stop)() {
                return Err(LoopError::Stopped);
            }
        }
        Ok(())
    }

    /// Waits for what is in flight.
    fn drain(&mut self) -> Result<(), LoopError> {
        let mut left = self.submitted.len();
        while left > 0 {
            self.wait()?;
            left = left.saturating_sub(self.done.len());
        }
        Ok(())
    }

    fn result(&self) -> Result<LoadResult, LoopError> {
        let requests = self.requests;
        let from = self.measured_from.filter(|_| requests > 0);
        let measured = self.now.duration_since(from.ok_or(LoopError::Nothing)?);
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        Ok(LoadResult {
            iops: requests as f64 / measured.as_secs_f64(),
            latency_ns: LatencyNs {
                min: self.latencies.min(),
                mean: self.latencies.mean(),
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: self.latencies.max(),
            },
            requests,
            errors: self.errors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::{BTreeSet, VecDeque};

    /// Completes what it was kicked for, `batch` reads at a time and not before `delay`.
    #[derive(Default)]
    struct Pretender {
        delay: Duration,
        batch: usize,
        fails: bool,
        silent_after: Option<usize>,
        put_in: VecDeque<u16>,
        seen: VecDeque<(u16, Option<Instant>)>,
        reads: usize,
        in_flight: BTreeSet<u16>,
        in_flight_max: usize,
        offset_max: u64,
    }

    impl Queue for Pretender {
        fn read(&mut self, slot: u16, offset: u64) -> io::Result<()> {
            assert!(offset.is_multiple_of(4096));
            assert!(self.in_flight.insert(slot), "slot {slot} is in flight");
            self.in_flight_max = self.in_flight_max.max(self.in_flight.len());
            self.offset_max = self.offset_max.max(offset);
            self.put_in.push_back(slot);
            self.reads += 1;
            Ok(())
        }

        fn kick(&mut self) -> io::Result<()> {
            let now = Some(Instant::now());
            self.seen
                .extend(self.put_in.drain(..).map(|slot| (slot, now)));
            Ok(())
        }

        fn completed(&mut self, done: &mut Vec<Done>) {
            if self.silent_after.is_some_and(|after| self.reads > after) {
                return;
            }
            for _ in 0..self.batch {
                let due = |begun: Option<Instant>| begun.unwrap().elapsed() >= self.delay;
                let Some(&(slot, begun)) = self.seen.front() else {
                    return;
                };
                if !due(begun) {
                    return;
                }
                self.seen.pop_front();
                self.in_flight.remove(&slot);
                let is_error = self.fails;
                done.push(Done { slot, is_error });
            }
        }
    }

    fn reads(iodepth: u32) -> RandomReads {
        RandomReads {
            block_bytes: 4096,
            disk_bytes: 1 << 20,
            iodepth,
            runtime: Duration::from_millis(60),
            ramp_time: Duration::from_millis(20),
            cpu: None,
        }
    }

    #[test]
    fn the_depth_is_kept_and_everything_comes_back() {
        for (iodepth, batch) in [(1, 1), (8, 3), (8, 8)] {
            let mut queue = Pretender {
                batch,
                ..Pretender::default()
            };
            let result = run(&mut queue, &reads(iodepth), || false).unwrap();
            assert_eq!(queue.in_flight_max, iodepth as usize);
            assert!(queue.in_flight.is_empty());
            assert!(queue.offset_max < 1 << 20 && queue.offset_max > 1 << 19);
            assert!(result.requests > 10 && result.requests < queue.reads as u64);
            assert_eq!(result.errors, 0);
        }
    }

    #[test]
    fn latencies_and_rate_are_those_of_the_device() {
        let mut queue = Pretender {
            delay: Duration::from_millis(2),
            batch: 1,
            ..Pretender::default()
        };
        let result = run(&mut queue, &reads(1), || false).unwrap();
        let latency = result.latency_ns;
        assert!(latency.min >= 1_990_000, "{latency:?}");
        let rising = [
            latency.min,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
        ];
        assert!(rising.is_sorted(), "{latency:?}");
        // One at a time: no more of them than the device's delay has room for. One in eight was timed, and they may be
        // slower than the others.
        let busy = result.iops * 1_990_000.0 / 1e9;
        assert!((0.01..1.01).contains(&busy), "{result:?}");
        assert!(result.requests >= u64::from(TIMED_EVERY), "{result:?}");
    }

    #[test]
    fn failed_reads_are_counted() {
        let mut queue = Pretender {
            fails: true,
            batch: 1,
            ..Pretender::default()
        };
        let result = run(&mut queue, &reads(4), || false).unwrap();
        assert_eq!(result.errors, result.requests);
    }

    #[test]
    fn a_request_to_stop_ends_a_load_and_a_wait() {
        for silent_after in [None, Some(0)] {
            let mut queue = Pretender {
                batch: 1,
                silent_after,
                ..Pretender::default()
            };
            let mut long = reads(2);
            long.runtime = Duration::from_secs(600);
            let asked = Cell::new(0);
            let stop = || {
                asked.set(asked.get() + 1);
                asked.get() == 2
            };
            let error = run(&mut queue, &long, stop).unwrap_err();
            assert!(matches!(error, LoopError::Stopped), "{error}");
        }
    }

    #[test]
    fn offsets_cover_the_disk_and_stay_inside() {
        let mut small = reads(1);
        small.disk_bytes = 8 * 4096 + 100;
        let mut offsets = Offsets::new(&small);
        let seen: BTreeSet<u64> = (0..1000).map(|_| offsets.next()).collect();
        let expected: BTreeSet<u64> = (0..8).map(|block| block * 4096).collect();
        assert_eq!(seen, expected);
    }
}
