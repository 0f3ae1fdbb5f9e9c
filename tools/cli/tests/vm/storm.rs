//! Drivers that come and go at random moments under load, round after round: nothing leaks, nothing complains, and the
//! device serves.
//!
//! `POLLUX_STORM_ROUNDS` sets the rounds of each kind, as `tools/storm` does.

mod disk;
mod guest;
mod held;

use std::time::Duration;

use held::Held;

use crate::guest::{Daemon, in_guest};

/// Rounds of a kind unless `POLLUX_STORM_ROUNDS` says more.
const ROUNDS: usize = 5;

/// Rounds before anything is measured: caches fill, threads' stacks are touched.
const WARM_UP: usize = 2;

/// How many times more rounds tell a machine that settles from one that leaks.
const SETTLED: usize = 3;

const SIZE: &str = "ram,size=64M";

fn rounds() -> usize {
    match std::env::var("POLLUX_STORM_ROUNDS") {
        Ok(text) => text.parse().expect("POLLUX_STORM_ROUNDS is a number"),
        Err(_) => ROUNDS,
    }
}

/// Numbers without a pattern: xorshift64.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let seed = since.map_or(1, |since| since.as_nanos() as u64);
        eprintln!("seed {seed:#x}");
        Self(seed | 1)
    }

    /// Sleeps for up to `end_ms` milliseconds.
    fn pause(&mut self, end_ms: u64) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        std::thread::sleep(Duration::from_millis(self.0 % end_ms));
    }
}

/// Serves a disk with `options` through rounds of `one`, and sees that they cost nothing for good.
fn storm(options: &[&str], mut one: impl FnMut(&Daemon, &mut Random)) {
    in_guest(|| {
        let options = [&["--queues", "2"], options].concat();
        let daemon = Daemon::serve("d0", SIZE, &options);
        let mut random = Random::new();
        let mut go = |rounds| -> Vec<Held> {
            let round = |_| {
                one(&daemon, &mut random);
                Held::by(&daemon)
            };
            (0..rounds).map(round).collect()
        };
        let mut held = go(WARM_UP + rounds()).split_off(WARM_UP);
        if held::machine_grows(&held) {
            // The CPUs' lists of free pages may still fill, which nothing empties. What leaks goes on.
            held = go(SETTLED * rounds());
        }
        held::assert_no_leak(&held);
        let seen = daemon.snapshot();
        assert_eq!(seen.problem, None);
        for queue in seen.queues {
            assert_eq!(queue.driver_faults, 0, "{queue:?}");
        }
        daemon.stop();
    });
}
