//! What the quick walk needs of descriptors, wherever they lie.

use super::Descriptor;

/// Descriptors by index.
pub(super) trait Table {
    /// Returns a private copy of the descriptor at `index`, which [`next`](Self::next) has given.
    fn descriptor(&self, index: u16) -> Descriptor;

    /// Returns whether `descriptor`, which lies at `index`, ends its chain.
    fn is_last(&self, index: u16, descriptor: Descriptor) -> bool;

    /// Returns the index of what follows `descriptor`, which lies at `index` and is not the last; `None` when
    /// that is no descriptor of this table.
    fn next(&self, index: u16, descriptor: Descriptor) -> Option<u16>;
}
