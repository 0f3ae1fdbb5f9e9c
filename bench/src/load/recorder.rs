//! What a load has seen: completions of one look at the ring, and all of the measured time.

use hdrhistogram::Histogram;
use quanta::Clock;

use super::{LoadError, Requests, Window};

/// A device that is silent for so long is given up.
const STALL_NS: u64 = 10_000_000_000;
/// Time between two looks at the signals, which cost a system call.
const LOOK_AGAIN_NS: u64 = 100_000_000;
/// Passes without a completion between two looks at the clock.
const IDLE_PASSES: u32 = 1 << 12;
/// Longest latency told apart from longer ones.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What one look at the ring found. Requests that began together are kept together.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    groups: Vec<(u64, u64)>,
    requests: u64,
    errors: u64,
}

impl Completed {
    /// Adds a request that began at `started`.
    #[inline]
    pub(crate) fn add(&mut self, started: u64, is_error: bool) {
        self.requests += 1;
        self.errors += u64::from(is_error);
        match self.groups.last_mut() {
            Some((begun, count)) if *begun == started => *count += 1,
            _ => self.groups.push((started, 1)),
        }
    }

    /// Returns how many requests are in it.
    #[inline]
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Forgets them.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.groups.clear();
        (self.requests, self.errors) = (0, 0);
    }
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Latencies in ns, of the requests that began in the measured time.
    pub(crate) latencies: Histogram<u64>,
    /// Requests completed.
    pub(crate) requests: u64,
    /// Of them those that failed.
    pub(crate) errors: u64,
    /// Time in which they were completed, in ns.
    pub(crate) elapsed_ns: u64,
    /// Of an open load: requests that had not even begun when it was given up. Their latency until then is
    /// among the latencies.
    pub(crate) unfinished: u64,
}

/// Fills a [`Measured`], and watches the time.
#[derive(Debug)]
pub(super) struct Recorder {
    clock: Clock,
    ticks_per_ns: f64,
    measured: Measured,
    /// Requests that began before are not timed.
    from: u64,
    /// When a request was completed, or the clock was looked at in vain.
    busy: u64,
    looked: u64,
    idle: u32,
}

impl Recorder {
    pub(super) fn new(clock: &Clock) -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        let now = clock.raw();
        Self {
            ticks_per_ns: (1_u64 << 40) as f64 / clock.delta_as_nanos(0, 1 << 40) as f64,
            clock: clock.clone(),
            measured: Measured {
                latencies: latencies.expect("constant bounds that the crate allows"),
                requests: 0,
                errors: 0,
                elapsed_ns: 0,
                unfinished: 0,
            },
            from: u64::MAX,
            busy: now,
            looked: now,
            idle: 0,
        }
    }

    /// Returns the raw time that `ns` take.
    pub(super) fn ticks(&self, ns: f64) -> f64 {
        ns * self.ticks_per_ns
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.clock.raw()
    }

    /// Begins the measured time. Returns when.
    pub(super) fn begin(&mut self, window: &mut Window<'_>) -> u64 {
        (window.mark)();
        self.from = self.now();
        self.busy = self.from;
        self.from
    }

    /// Returns whether a latency is known, or none is asked for yet.
    #[inline]
    pub(super) fn has_timed(&self) -> bool {
        self.from == u64::MAX || !self.measured.latencies.is_empty()
    }

    /// Adds what was completed at `now`.
    #[inline]
    pub(super) fn record(&mut self, completed: &Completed, now: u64) {
        self.busy = now;
        self.idle = 0;
        if self.from > now {
            return;
        }
        self.measured.requests += completed.requests;
        self.measured.errors += completed.errors;
        for &(started, count) in &completed.groups {
            if started >= self.from {
                self.record_latency(started, now, count);
            }
        }
    }

    #[inline]
    fn record_latency(&mut self, started: u64, now: u64, count: u64) {
        let latency = self.clock.delta_as_nanos(started, now);
        // In range by the clamp, so it never fails.
        let latency = latency.clamp(1, LATENCY_NS_MAX);
        let _ = self.measured.latencies.record_n(latency, count);
    }

    /// Adds a request that was to begin at `started` and had not by `now`.
    pub(super) fn unfinished(&mut self, started: u64, now: u64) {
        self.measured.unfinished += 1;
        self.record_latency(started, now, 1);
    }

    /// Notes that a look at the ring found nothing.
    #[inline]
    pub(super) fn idle(&mut self, window: &Window<'_>) -> Result<(), LoadError> {
        self.idle += 1;
        if self.idle < IDLE_PASSES {
            return Ok(());
        }
        self.idle = 0;
        let now = self.now();
        if self.clock.delta_as_nanos(self.busy, now) > STALL_NS {
            return Err(LoadError::Stalled(STALL_NS / 1_000_000_000));
        }
        self.look(window, now)
    }

    /// Looks now and then whether the user wants it to end.
    #[inline]
    pub(super) fn look(&mut self, window: &Window<'_>, now: u64) -> Result<(), LoadError> {
        if self.clock.delta_as_nanos(self.looked, now) < LOOK_AGAIN_NS {
            return Ok(());
        }
        self.looked = now;
        match (window.stop)() {
            true => Err(LoadError::Stopped),
            false => Ok(()),
        }
    }

    /// Waits for `in_flight` requests without measuring them.
    pub(super) fn drain(
        &mut self,
        queue: &mut impl Requests,
        mut in_flight: u64,
        window: &Window<'_>,
    ) -> Result<(), LoadError> {
        let mut completed = Completed::default();
        self.busy = self.now();
        while in_flight > 0 {
            completed.clear();
            queue.reap(&mut completed);
            in_flight = in_flight.saturating_sub(completed.requests);
            if completed.requests == 0 {
                self.idle(window)?;
            }
        }
        Ok(())
    }

    /// Returns what was measured until `end`.
    pub(super) fn finish(mut self, end: u64) -> Result<Measured, LoadError> {
        self.measured.elapsed_ns = self.clock.delta_as_nanos(self.from, end);
        if self.measured.requests == 0 || self.measured.elapsed_ns == 0 {
            return Err(LoadError::Nothing);
        }
        Ok(self.measured)
    }
}
