//! The device side of a virtqueue beside that of the crate `virtio-queue`: take a block request, find its
//! header, data and status, answer it, return it. In one process, in turns, over the same memory.
//!
//! The driver's part, which fills the ring before a batch and empties it after, is not timed.

mod comparison;
mod device;
mod fixture;
mod pass;
mod reference;

pub use comparison::{RingComparison, RingPlan, RingRow, compare};
pub use device::DeviceSide;
pub use fixture::{Fixture, Shape};
pub use pass::PassSide;
pub use reference::ReferenceSide;

use std::time::Duration;

/// A device side that can be timed.
pub trait Side {
    /// Serves everything that is available in the ring, which is one batch. Returns how many requests that
    /// were.
    fn serve(&mut self) -> u64;
}

/// Returns the time that `side` needs for `batches` batches of `fixture`.
///
/// # Panics
///
/// When a batch does not come back whole.
pub fn time(fixture: &mut Fixture, side: &mut impl Side, batches: u64) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..batches {
        fixture.fill();
        let begun = std::time::Instant::now();
        let served = side.serve();
        total += begun.elapsed();
        assert_eq!(served, u64::from(fixture.shape().batch), "requests served");
        fixture.drain();
    }
    total
}
