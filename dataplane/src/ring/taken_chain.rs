//! A chain of a packed ring that was taken and is not in the ring any more.

use super::Descriptor;

/// A copy of a chain: what was returned before it, or the driver, may have written over the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenChain {
    /// Its buffer ID.
    pub id: u16,
    /// Its descriptors, as the driver wrote them.
    pub descriptors: Vec<Descriptor>,
}
