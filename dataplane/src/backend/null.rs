//! A disk that forgets: writes vanish, reads give zeros. What is left is the cost of everything else.

use super::memory_disk::resized;
use super::{Backend, BackendQueue, DiskError, DiskOptions, Outcome, Submission, Token};
use crate::blk::{Geometry, Operation};
use crate::mem::Segment;

/// The null backend.
#[derive(Debug)]
pub struct Null {
    geometry: Geometry,
    fill: bool,
}

/// A queue of the null backend.
#[derive(Debug)]
pub struct NullQueue {
    fill: bool,
}

impl Null {
    /// Returns a null disk. Without `fill` reads leave the driver's buffer as it is: whatever the bounce
    /// page held before is what the reader gets, so only benchmarks want that.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when an option makes no sense.
    pub fn new(options: &DiskOptions, fill: bool) -> Result<Self, DiskError> {
        Ok(Self {
            geometry: options.geometry()?,
            fill,
        })
    }
}

impl Backend for Null {
    type Queue = NullQueue;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> std::io::Result<NullQueue> {
        Ok(NullQueue { fill: self.fill })
    }

    fn resized(&self, size_bytes: u64) -> Result<Geometry, DiskError> {
        resized(&self.geometry, size_bytes)
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        self.geometry = geometry;
        Ok(())
    }
}

impl BackendQueue for NullQueue {
    #[inline]
    fn submit(&mut self, _: Token, operation: Operation<'_, '_>) -> Submission {
        if let Operation::Read { into, .. } = operation
            && self.fill
        {
            into.iter().for_each(Segment::zero);
        }
        Submission::Complete(Outcome::Done)
    }
}
