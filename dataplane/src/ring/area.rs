//! The parts of a virtqueue in the driver's memory, validated once.

use super::SetupError;
use crate::mem::{Direction, Iova, RegionTable, Shared, SharedArray, SharedCell, TranslateError};

/// One of the three parts of a ring.
pub(super) struct Area<'table> {
    pub(super) part: &'static str,
    pub(super) start: Iova,
    pub(super) direction: Direction,
    pub(super) table: &'table RegionTable,
}

impl Area<'_> {
    fn named<T>(
        &self,
        offset: u64,
        look: impl FnOnce(Iova) -> Result<T, TranslateError>,
    ) -> Result<T, SetupError> {
        let unmapped = TranslateError::Unmapped {
            iova: self.start,
            bytes: offset,
        };
        let found = self
            .start
            .checked_add(offset)
            .ok_or(unmapped)
            .and_then(look);
        found.map_err(|reason| SetupError::Area {
            part: self.part,
            at: self.start,
            reason,
        })
    }

    /// Returns the element `offset` bytes into the part.
    pub(super) fn cell<S: Shared>(&self, offset: u64) -> Result<SharedCell<S>, SetupError> {
        self.named(offset, |at| self.table.cell(at, self.direction))
    }

    /// Returns the `count` elements from `offset` bytes on.
    pub(super) fn array<S: Shared>(
        &self,
        offset: u64,
        count: u16,
    ) -> Result<SharedArray<S>, SetupError> {
        self.named(offset, |at| self.table.array(at, count, self.direction))
    }
}
