//! What interrupt moderation is told of a ring.

/// What the driver has not taken back from a ring, in entries of a split ring and in descriptors of a packed
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Completed.
    pub completed: u16,
    /// Submitted, as far as it was seen; what is completed included.
    pub outstanding: u16,
}
