//! Storage that never finishes what it has, and workers that do not come back from it.

mod backend;
mod daemon;
mod worker;

use std::time::{Duration, Instant};

/// What is bounded by a drain, 5 s, and some, or by the wait for a worker, 8 s; in an emulated machine.
const BOUND: Duration = Duration::from_secs(12);

/// Runs `action`, which must return within [`BOUND`].
fn bounded<T>(what: &str, action: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = action();
    let took = begun.elapsed();
    eprintln!("{what}: {:.1} s", took.as_secs_f32());
    assert!(took < BOUND, "{what} took {took:?}");
    result
}
