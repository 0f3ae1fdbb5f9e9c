//! A fixed number of requests, which nobody times.

use quanta::Clock;

use super::recorder::Recorder;
use super::{Completed, LoadError, Requests, Window};

/// Makes `requests` requests, as many at once as there is room for, or fewer when `window.runtime_ns` is over first.
/// Waits for the last of them.
pub(crate) fn once(
    queue: &mut impl Requests,
    requests: u64,
    clock: &Clock,
    window: Window<'_>,
) -> Result<(), LoadError> {
    let mut recorder = Recorder::new(clock);
    let started = recorder.now();
    let end = started + recorder.ticks(window.runtime_ns as f64) as u64;
    let (mut left, mut in_flight) = (requests, 0);
    let mut completed = Completed::default();
    while left > 0 && recorder.now() < end {
        while left > 0 && queue.submit(started) {
            left -= 1;
            in_flight += 1;
        }
        queue.publish();
        completed.clear();
        queue.reap(&mut completed);
        in_flight -= completed.requests();
        if completed.requests() == 0 {
            recorder.idle(&window)?;
        }
    }
    recorder.drain(queue, in_flight, &window)
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[test]
    fn every_request_is_made_once_unless_the_time_is_over() {
        for (runtime_ns, expected) in [(1_000_000_000, 1_000), (100_000, 100)] {
            let (mut server, clock) = Server::new(8, 1_000);
            let window = Window {
                ramp_ns: 0,
                runtime_ns,
                mark: &mut || {},
                stop: &|| false,
            };
            once(&mut server, 1_000, &clock, window).unwrap();
            assert_eq!(server.in_flight(), 0);
            assert!(
                server.served().abs_diff(expected) <= 8,
                "{}",
                server.served()
            );
        }
    }
}
