//! A chain that the driver lent us.

use std::fmt;

/// The head of a descriptor chain that was taken from the avail ring. It must go back exactly once:
/// pushing consumes it, and losing one is a panic in debug builds, since to the driver it is a request
/// that never ends.
#[must_use = "a lost head is a request that never ends"]
#[derive(PartialEq, Eq)]
pub struct Head(u16);

impl Head {
    pub(super) fn new(index: u16) -> Self {
        Self(index)
    }

    /// Returns the index of the chain's first descriptor.
    #[inline]
    pub fn index(&self) -> u16 {
        self.0
    }

    #[inline]
    pub(super) fn returned(self) -> u16 {
        let index = self.0;
        std::mem::forget(self);
        index
    }

    /// Gives the chain up without returning it: the queue was reset or is broken beyond use, and the
    /// driver takes everything back by itself.
    pub fn abandon(self) {
        std::mem::forget(self);
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Head({})", self.0)
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        if cfg!(debug_assertions) && !std::thread::panicking() {
            panic!(
                "descriptor chain {} was neither returned nor abandoned",
                self.0
            );
        }
    }
}
