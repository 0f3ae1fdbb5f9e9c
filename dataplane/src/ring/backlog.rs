//! What interrupt moderation is told of a ring.

/// What the driver has not taken back from a ring, in entries of a split ring and in descriptors of a packed
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Completed.
    pub completed: u16,
    /// Submitted, as far as it was seen; what is completed included.
    pub outstanding: u16,
    /// The driver may not have asked at all: the index at which it wants to hear has not moved since the
    /// indexes, which count modulo 65536, passed it the last time. A driver that polls leaves it so.
    pub stale: bool,
}
