//! A worker that is killed at a chosen instruction, for tests: it unwinds, and nothing after it is stored.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// Points that this thread still passes before it is killed.
    static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

struct Killed;

/// A place where the worker may be killed.
pub(crate) fn point() {
    LEFT.with(|left| match left.get() {
        Some(0) => resume_unwind(Box::new(Killed)),
        Some(points) => left.set(Some(points - 1)),
        None => {}
    });
}

/// Runs `work`, which is killed after `points` points. Returns none if it was.
pub(crate) fn after<T>(points: u32, work: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(Some(points));
    let ended = catch_unwind(AssertUnwindSafe(work));
    LEFT.set(None);
    match ended {
        Ok(value) => Some(value),
        Err(reason) if reason.is::<Killed>() => None,
        Err(reason) => resume_unwind(reason),
    }
}
