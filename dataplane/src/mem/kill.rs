//! A worker that is killed between two stores that the next process relies on, for tests. Elsewhere the points where
//! that can happen are nothing.
//!
//! Unit tests kill a thread's work, by unwinding it. A program built with the feature `kill-points` kills itself, as
//! SIGKILL does, at the point whose number is in `POLLUX_KILL_POINT`, counted over all threads from 1.

#[cfg(test)]
pub(crate) use points::after;
pub(crate) use points::point;

#[cfg(not(any(test, feature = "kill-points")))]
mod points {
    /// A place where the worker may be killed.
    #[inline(always)]
    pub(crate) fn point() {}
}

#[cfg(all(feature = "kill-points", not(test)))]
mod points {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    static LAST: LazyLock<Option<u64>> =
        LazyLock::new(|| std::env::var("POLLUX_KILL_POINT").ok()?.parse().ok());
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// A place where the worker may be killed.
    pub(crate) fn point() {
        if let Some(last) = *LAST
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 >= last
        {
            // Ends the process here.
            let _ = raise(Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod points {
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
}
