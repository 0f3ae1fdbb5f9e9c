//! A closed loop: each request that completes is replaced at once, and what is done together is replaced
//! together. A request begins when its replacement is due.

use quanta::Clock;

use super::recorder::Recorder;
use super::{Completed, LoadError, Measured, Requests, Window};

/// Keeps `iodepth` requests in flight, waits for the last of them, and returns what was measured.
pub(crate) fn closed(
    queue: &mut impl Requests,
    iodepth: u32,
    clock: &Clock,
    mut window: Window<'_>,
) -> Result<Measured, LoadError> {
    let mut recorder = Recorder::new(clock);
    let started = recorder.now();
    let mut in_flight = 0;
    while in_flight < u64::from(iodepth) && queue.submit(started) {
        in_flight += 1;
    }
    queue.publish();
    let ramp = recorder.ticks(window.ramp_ns as f64) as u64;
    go_on_until(queue, &mut recorder, started + ramp, &window)?;
    let from = recorder.begin(&mut window);
    let runtime = recorder.ticks(window.runtime_ns as f64) as u64;
    let end = go_on_until(queue, &mut recorder, from + runtime, &window)?;
    (window.mark)();
    recorder.drain(queue, in_flight, &window)?;
    recorder.finish(end)
}

/// Replaces what completes, until something completes at `end` or later, and one request at least was timed, if they
/// are. Returns when that was.
fn go_on_until(
    queue: &mut impl Requests,
    recorder: &mut Recorder,
    end: u64,
    window: &Window<'_>,
) -> Result<u64, LoadError> {
    let mut completed = Completed::default();
    loop {
        completed.clear();
        queue.reap(&mut completed);
        if completed.requests() == 0 {
            recorder.idle(window)?;
            continue;
        }
        let now = recorder.now();
        for _ in 0..completed.requests() {
            // What came back left its room behind.
            queue.submit(now);
        }
        queue.publish();
        // The device has its next requests already.
        recorder.record(&completed, now);
        if now >= end && recorder.has_timed() {
            return Ok(now);
        }
        recorder.look(window, now)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[test]
    fn as_many_requests_as_asked_for_are_in_flight_and_none_is_left() {
        for iodepth in [1, 4, 32] {
            let (mut server, clock) = Server::new(64, 1_000);
            let measured = server.run(10_000_000, |server, window| {
                closed(server, iodepth, &clock, window)
            });
            let measured = measured.unwrap();
            assert_eq!(server.in_flight_max(), iodepth as usize);
            assert_eq!(server.in_flight(), 0);
            // One server, 1 us a request.
            assert!(measured.requests.abs_diff(10_000) < 300, "{measured:?}");
            let p50 = measured.latencies.value_at_quantile(0.5);
            let alone = 1_000 * u64::from(iodepth);
            assert!(p50.abs_diff(alone) < alone / 5, "QD {iodepth}: {p50} ns");
        }
    }

    #[test]
    fn a_measured_time_too_short_for_a_request_goes_on_until_one_is_timed() {
        let (mut server, clock) = Server::new(64, 1_000_000);
        let measured = server.run(1_000, |server, window| closed(server, 2, &clock, window));
        let measured = measured.unwrap();
        assert!(measured.elapsed_ns > 1_000_000, "{measured:?}");
        assert!(measured.latencies.min() > 900_000, "{measured:?}");
    }

    #[test]
    fn a_device_that_does_not_answer_is_given_up() {
        let (mut server, clock) = Server::new(64, 1_000);
        server.stall(0, u64::MAX);
        let ended = server.run(1_000_000, |server, window| {
            closed(server, 2, &clock, window)
        });
        assert_eq!(ended.unwrap_err(), LoadError::Stalled(10));
    }

    #[test]
    fn a_user_who_wants_an_end_gets_it() {
        let (mut server, clock) = Server::new(64, 1_000);
        server.stop();
        let ended = server.run(1_000_000_000, |server, window| {
            closed(server, 2, &clock, window)
        });
        assert_eq!(ended.unwrap_err(), LoadError::Stopped);
    }
}
