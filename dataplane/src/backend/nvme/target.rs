//! The namespace that queues lead to.

use super::command::Blocks;
use super::identify::Limits;
use crate::blk::SectorRange;

/// A namespace, as far as commands depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) nsid: u32,
    pub(super) block_bytes: u32,
    pub(super) limits: Limits,
    pub(super) volatile_cache: bool,
}

impl Target {
    /// Returns `range` in blocks. It is at most as long as a command may be.
    #[inline]
    pub(super) fn blocks(&self, range: SectorRange) -> Blocks {
        let shift = self.block_bytes.trailing_zeros() - 9;
        Blocks {
            first: range.first >> shift,
            count: (range.count >> shift) as u32,
        }
    }
}
