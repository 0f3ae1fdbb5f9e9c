//! A time that two processes agree on.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A time since the start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Moment {
    boot_ns: u64,
}

impl Moment {
    /// Returns the time now.
    pub fn now() -> Self {
        // This clock exists on every Linux.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        let boot_ns = now.unwrap_or_default().as_nanos();
        Self {
            boot_ns: u64::try_from(boot_ns).unwrap_or(u64::MAX),
        }
    }

    /// Returns how long it was after `earlier`; nothing if it was not.
    pub fn after(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.boot_ns.saturating_sub(earlier.boot_ns))
    }
}
