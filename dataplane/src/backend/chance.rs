//! Random numbers of wrappers: of each queue its own, and with a seed the same again.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Where the random numbers of a disk's queues come from.
#[derive(Debug)]
pub(super) struct Chance(AtomicU64);

impl Chance {
    /// Returns one with `seed`, or one that is like no other.
    pub(super) fn new(seed: Option<u64>) -> Self {
        Self(AtomicU64::new(
            seed.unwrap_or_else(|| RandomState::new().hash_one(0)),
        ))
    }

    /// Returns the numbers of the queue that is opened next.
    pub(super) fn open_queue(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn a_seed_repeats_the_numbers_of_each_queue() {
        let numbers = |seed| {
            let chance = Chance::new(seed);
            [(); 3].map(|()| chance.open_queue().random::<u64>())
        };
        let once = numbers(Some(7));
        assert_eq!(once, numbers(Some(7)));
        assert!(once[0] != once[1] && once[1] != once[2], "{once:?}");
        assert_ne!(once, numbers(Some(70)));
        assert_ne!(numbers(None), numbers(None));
    }
}
