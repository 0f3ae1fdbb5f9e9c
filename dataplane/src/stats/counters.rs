//! Counters with one writer.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ErrnoCounters;

/// A number that only grows. One thread adds, so no locked instruction is needed; others may read an
/// older value.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the owner may call this.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    /// Shows `value`, which only grows, too. Only the owner may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one queue, since its worker started.
        #[derive(Debug, Default)]
        pub struct QueueCounters {
            $($(#[$doc])* pub $name: Counter,)*
            /// Requests that the host failed, by why.
            pub host_errors: ErrnoCounters,
        }

        /// The counters of one queue at some moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct QueueSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl QueueCounters {
            /// Returns all values, each as of its own moment.
            pub fn snapshot(&self) -> QueueSnapshot {
                QueueSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Requests completed, failed ones included.
    requests,
    /// Data bytes given to the driver.
    bytes_read,
    /// Data bytes taken from the driver.
    bytes_written,
    /// Requests completed with a status other than OK.
    errors,
    /// Breaches of the specification by the driver.
    driver_faults,
    /// Passes that did something.
    polls_busy,
    /// Passes that found nothing to do.
    polls_idle,
    /// Times that the worker slept.
    sleeps,
    /// Kicks received.
    kicks,
    /// Interrupts raised.
    interrupts,
    /// Interrupts that the kernel refused.
    interrupts_refused,
    /// System calls of the backend.
    backend_system_calls,
    /// Operations whose data went straight to or from memory that the backend has registered.
    backend_registered,
    /// Operations whose data the backend copied, because of where the driver has it.
    backend_copied,
}
