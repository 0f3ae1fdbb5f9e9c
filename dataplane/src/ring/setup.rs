//! Where a driver put a virtqueue, and why it may not be served there.

use super::RingFeatures;
use crate::limits::{QUEUE_SIZE_MAX, QUEUE_SIZE_MIN};
use crate::mem::{Iova, TranslateError};

/// Where a driver put a virtqueue, and what was negotiated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Entries, a power of two.
    pub size: u16,
    /// Descriptor area: the descriptor table, or the ring of a packed queue.
    pub descriptor_area: Iova,
    /// Driver area: the avail ring, or the driver's event suppression.
    pub driver_area: Iova,
    /// Device area: the used ring, or the device's event suppression.
    pub device_area: Iova,
    /// The next chain to take. Split: the free-running index of its avail entry. Packed: the slot of its
    /// first descriptor, with the wrap counter in bit 15.
    pub next_avail: u16,
    /// Packed: the slot of the next used descriptor, with the wrap counter in bit 15. A split ring has this
    /// in its memory.
    pub next_used: u16,
    /// What was negotiated.
    pub features: RingFeatures,
}

/// How far the device side of a virtqueue got, counted as in [`QueueConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingState {
    /// The next chain to take.
    pub next_avail: u16,
    /// The next entry to return.
    pub next_used: u16,
}

impl QueueConfig {
    /// Returns how far the device side was when it got this.
    pub fn state(&self) -> RingState {
        RingState {
            next_avail: self.next_avail,
            next_used: self.next_used,
        }
    }

    /// Returns the same queue, to be served from `state` on.
    pub fn at(self, state: RingState) -> Self {
        let RingState {
            next_avail,
            next_used,
        } = state;
        Self {
            next_avail,
            next_used,
            ..self
        }
    }
}

/// Why a virtqueue cannot be served. The driver chose its size and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not a power of two, or outside of the limits.
    #[error(
        "a queue size of {0}; a power of two from {QUEUE_SIZE_MIN} to {QUEUE_SIZE_MAX} is needed"
    )]
    Size(u16),
    /// A position in a packed ring that is outside of it.
    #[error("a start at slot {slot} of a packed ring of {size}")]
    Position {
        /// The slot.
        slot: u16,
        /// Descriptors of the ring.
        size: u16,
    },
    /// The log of a killed device is of another ring.
    #[error("{taken} requests in flight, of which the driver has {outstanding} outstanding")]
    InFlight {
        /// Taken and not returned.
        taken: usize,
        /// What the ring says.
        outstanding: u16,
    },
    /// A packed ring is written over by what is returned.
    #[error(
        "a packed ring without a log, which does not tell how far a device that was killed got"
    )]
    NoLog,
    /// A ring part is not in the driver's memory.
    #[error("the {part} at {at}: {reason}")]
    Area {
        /// Which part.
        part: &'static str,
        /// Where the driver put it.
        at: Iova,
        /// What is wrong with that.
        reason: TranslateError,
    },
}

impl QueueConfig {
    /// Returns the size, if a queue of that many entries is served.
    pub(super) fn checked_size(&self) -> Result<u16, SetupError> {
        let size = self.size;
        if size.is_power_of_two() && (QUEUE_SIZE_MIN..=QUEUE_SIZE_MAX).contains(&size) {
            Ok(size)
        } else {
            Err(SetupError::Size(size))
        }
    }
}
