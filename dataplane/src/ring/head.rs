//! The life of a chain on the device's side: a [`Head`] is taken, a [`Done`] goes back.

use std::fmt;

/// The head of a descriptor chain that was taken from a ring. It must go back exactly once: that consumes
/// it, and losing one is a panic in debug builds, since to the driver it is a request that never ends.
#[must_use = "a lost head is a request that never ends"]
#[derive(PartialEq, Eq)]
pub struct Head {
    id: u16,
    slots: u16,
}

impl Head {
    /// `slots` is how far taking the chain moved the ring on: 1 in a split ring, its descriptors in a packed
    /// one.
    #[inline]
    pub(super) fn new(id: u16, slots: u16) -> Self {
        Self { id, slots }
    }

    /// Returns what names the chain while it is in flight: in a split ring the index of its first descriptor,
    /// in a packed one its buffer ID. Below the size of the queue.
    #[inline]
    pub fn id(&self) -> u16 {
        self.id
    }

    #[inline]
    pub(super) fn slots(&self) -> u16 {
        self.slots
    }

    /// Returns the chain as one to be returned, with `written` bytes in its buffers.
    #[inline]
    pub fn done(self, written: u32) -> Done {
        Done {
            head: self,
            written,
            whole: false,
        }
    }

    /// Returns the chain as one to be returned, with all of its writable buffers filled, `written` bytes.
    #[inline]
    pub fn done_whole(self, written: u32) -> Done {
        Done {
            head: self,
            written,
            whole: true,
        }
    }

    /// Gives the chain up without returning it: the queue was reset or is broken beyond use, and the
    /// driver takes everything back by itself.
    #[inline]
    pub fn abandon(self) {
        std::mem::forget(self);
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Head({})", self.id)
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        if cfg!(debug_assertions) && !std::thread::panicking() {
            panic!(
                "descriptor chain {} was neither returned nor abandoned",
                self.id
            );
        }
    }
}

/// A chain with its answer written, on its way back to the driver.
#[must_use = "a chain that is not pushed is a request that never ends"]
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    head: Head,
    written: u32,
    whole: bool,
}

impl Done {
    /// Returns what named the chain in flight.
    #[inline]
    pub fn id(&self) -> u16 {
        self.head.id
    }

    #[inline]
    pub(super) fn slots(&self) -> u16 {
        self.head.slots
    }

    /// Returns whether all writable bytes of the chain were written.
    #[inline]
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Returns the ID and the bytes written, for the ring.
    #[inline]
    pub(super) fn returned(self) -> (u16, u32) {
        let returned = (self.head.id, self.written);
        self.head.abandon();
        returned
    }
}
