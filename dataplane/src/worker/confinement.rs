//! What a worker's thread gives up before it serves. What that is, its creator knows.

use std::fmt;
use std::io;

/// Something that is done once on the worker's own thread, after all that takes rights which the queue does not need.
pub struct Confinement(Box<dyn FnOnce() -> io::Result<()> + Send>);

impl Confinement {
    /// Returns one that calls `confine`, whose failure is that of the worker's start.
    pub fn new(confine: impl FnOnce() -> io::Result<()> + Send + 'static) -> Self {
        Self(Box::new(confine))
    }

    pub(super) fn apply(self) -> io::Result<()> {
        (self.0)()
    }
}

impl fmt::Debug for Confinement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Confinement")
    }
}
