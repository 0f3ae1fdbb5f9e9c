//! What is left of a queue when its memory goes away under it.

use crate::ring::{DriverFault, QueueConfig};

/// How far a driver's breach of the specification reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// No breach so far.
    Sound,
    /// A chain was bad, or the backend was given up. The ring itself makes sense, so what comes is answered
    /// with an error.
    Failing,
    /// The ring makes no sense. Nothing is taken any more.
    Stopped,
}

/// A queue between two memory maps: where it goes on, and what the driver did wrong so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub(super) config: QueueConfig,
    pub(super) health: Health,
    pub(super) fault: Option<DriverFault>,
}

impl Rest {
    /// Returns a queue that was not served yet.
    pub(super) fn fresh(config: QueueConfig) -> Self {
        Self {
            config,
            health: Health::Sound,
            fault: None,
        }
    }
}
