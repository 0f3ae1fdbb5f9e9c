//! An open loop: requests arrive by a Poisson process, whether the device keeps up or not. A latency counts from
//! when the request was to begin, so one that finds no room, or a client that is late, does not go unseen (no
//! coordinated omission). Arrivals that wait need no memory: the next one is all there is to know of them.

use quanta::Clock;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Exp1;

use super::recorder::Recorder;
use super::{Completed, LoadError, Measured, Requests, Window};

/// When requests are to begin: after exponentially distributed times.
struct Arrivals {
    random: SmallRng,
    mean: f64,
    from: u64,
    /// From `from` to the next one.
    ahead: f64,
}

impl Arrivals {
    fn new(from: u64, mean: f64, seed: u64) -> Self {
        let mut arrivals = Self {
            random: SmallRng::seed_from_u64(seed),
            mean,
            from,
            ahead: 0.0,
        };
        arrivals.advance();
        arrivals
    }

    /// Raw time of the next arrival.
    #[inline]
    fn next(&self) -> u64 {
        self.from + self.ahead as u64
    }

    #[inline]
    fn advance(&mut self) {
        let gap: f64 = self.random.sample(Exp1);
        self.ahead += gap * self.mean;
    }
}

/// Lets `rate_iops` requests a second arrive, waits for all that arrived in the measured time, and returns what was
/// measured. Those that have not begun after as long again are given up, and noted.
pub(crate) fn open(
    queue: &mut impl Requests,
    rate_iops: f64,
    seed: u64,
    clock: &Clock,
    mut window: Window<'_>,
) -> Result<Measured, LoadError> {
    let mut recorder = Recorder::new(clock);
    let mean = recorder.ticks(1e9 / rate_iops);
    let runtime = recorder.ticks(window.runtime_ns as f64) as u64;
    let mut flow = Flow {
        queue,
        completed: Completed::default(),
        in_flight: 0,
        last: 0,
    };
    let started = recorder.now();
    let ramp_end = started + recorder.ticks(window.ramp_ns as f64) as u64;
    let mut ramp = Arrivals::new(started, mean, !seed);
    flow.go_on(&mut ramp, ramp_end, ramp_end, &mut recorder, &window)?;
    let from = recorder.begin(&mut window);
    let end = from + runtime;
    let mut arrivals = Arrivals::new(from, mean, seed);
    flow.go_on(&mut arrivals, end, end + runtime, &mut recorder, &window)?;
    let now = recorder.now();
    while arrivals.next() < end {
        recorder.unfinished(arrivals.next(), now);
        arrivals.advance();
    }
    (window.mark)();
    let (in_flight, last) = (flow.in_flight, flow.last);
    recorder.drain(queue, in_flight, &window)?;
    recorder.finish(last.max(end))
}

struct Flow<'a, Q> {
    queue: &'a mut Q,
    completed: Completed,
    in_flight: u64,
    /// When something was completed.
    last: u64,
}

impl<Q: Requests> Flow<'_, Q> {
    /// Puts in what arrives before `end`, and takes back what is done, until all is or the time is `give_up`.
    fn go_on(
        &mut self,
        arrivals: &mut Arrivals,
        end: u64,
        give_up: u64,
        recorder: &mut Recorder,
        window: &Window<'_>,
    ) -> Result<(), LoadError> {
        loop {
            let now = recorder.now();
            let mut submitted = 0;
            let is_due = |next: u64| next <= now && next < end;
            while is_due(arrivals.next()) && self.queue.submit(arrivals.next()) {
                arrivals.advance();
                submitted += 1;
            }
            if submitted > 0 {
                self.in_flight += submitted;
                self.queue.publish();
            }
            self.completed.clear();
            self.queue.reap(&mut self.completed);
            if self.completed.requests() > 0 {
                self.in_flight -= self.completed.requests();
                self.last = recorder.now();
                recorder.record(&self.completed, self.last);
            }
            let is_over = arrivals.next() >= end && self.in_flight == 0;
            if (now >= end && is_over) || now >= give_up {
                return Ok(());
            }
            recorder.look(window, now)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    const RUNTIME_NS: u64 = 100_000_000;

    #[test]
    fn arrivals_are_as_many_as_asked_for_and_apart_as_a_poisson_process_has_them() {
        let mut arrivals = Arrivals::new(0, 1_000.0, 7);
        let mut gaps = Vec::new();
        for _ in 0..100_000 {
            let before = arrivals.ahead;
            arrivals.advance();
            gaps.push(arrivals.ahead - before);
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = |gap: &f64| (gap - mean) * (gap - mean);
        let deviation = (gaps.iter().map(square).sum::<f64>() / gaps.len() as f64).sqrt();
        // Of an exponential distribution the deviation is the mean.
        assert!((mean - 1_000.0).abs() < 20.0, "mean {mean}");
        assert!((deviation - mean).abs() < 30.0, "deviation {deviation}");
    }

    #[test]
    fn a_stall_shows_in_every_arrival_that_falls_into_it_though_the_ring_has_little_room() {
        let (mut server, clock) = Server::new(8, 1_000);
        // A tenth of the time.
        server.stall(40_000_000, 10_000_000);
        let measured = server.run(RUNTIME_NS, |server, window| {
            open(server, 100_000.0, 1, &clock, window)
        });
        let measured = measured.unwrap();
        let latencies = &measured.latencies;
        assert!(measured.requests.abs_diff(10_000) < 300, "{measured:?}");
        assert_eq!(latencies.len(), measured.requests);
        // 1000 arrive in the stall and wait 5 ms on average; catching up takes about 1 ms more.
        let slow = latencies.count_between(1_000_000, u64::MAX);
        assert!((850..1_150).contains(&slow), "{slow} of {measured:?}");
        let max = latencies.max();
        assert!((9_900_000..10_100_000).contains(&max), "{max}");
        let p95 = latencies.value_at_quantile(0.95);
        assert!((4_000_000..6_500_000).contains(&p95), "{p95}");
        assert!(latencies.value_at_quantile(0.5) < 3_000);
        assert_eq!((server.in_flight(), measured.unfinished), (0, 0));
    }

    #[test]
    fn a_stall_at_the_end_is_waited_for() {
        let (mut server, clock) = Server::new(8, 1_000);
        server.stall(95_000_000, 10_000_000);
        let measured = server.run(RUNTIME_NS, |server, window| {
            open(server, 100_000.0, 1, &clock, window)
        });
        let slow = measured
            .unwrap()
            .latencies
            .count_between(1_000_000, u64::MAX);
        assert!((400..600).contains(&slow), "{slow}");
    }

    #[test]
    fn what_an_overloaded_device_leaves_undone_is_told() {
        // 1M requests a second at most, 3M arrive.
        let (mut server, clock) = Server::new(8, 1_000);
        let measured = server.run(10_000_000, |server, window| {
            open(server, 3_000_000.0, 1, &clock, window)
        });
        let measured = measured.unwrap();
        assert!(measured.unfinished.abs_diff(10_000) < 1_000, "{measured:?}");
        assert!(measured.requests.abs_diff(20_000) < 1_000, "{measured:?}");
        assert!(measured.latencies.value_at_quantile(0.5) > 5_000_000);
        assert_eq!(server.in_flight(), 0);
    }
}
