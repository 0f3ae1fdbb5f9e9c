//! The parts of a virtqueue in the driver's memory, validated once.

use super::{QueueConfig, SetupError};
use crate::mem::{Direction, Iova, RegionTable, Shared, SharedArray, SharedCell, TranslateError};

/// The three parts of a virtqueue.
pub(super) struct Areas<'table> {
    pub(super) descriptor: Area<'table>,
    pub(super) driver: Area<'table>,
    pub(super) device: Area<'table>,
}

impl<'table> Areas<'table> {
    /// Returns the parts of the queue at `config`, whose descriptors the device uses as `descriptor` says.
    pub(super) fn new(
        config: &QueueConfig,
        descriptor: Direction,
        table: &'table RegionTable,
    ) -> Self {
        let area = |part, start, direction| Area {
            part,
            start,
            direction,
            table,
        };
        let (read, written) = (Direction::Readable, Direction::Writable);
        Self {
            descriptor: area("descriptor area", config.descriptor_area, descriptor),
            driver: area("driver area", config.driver_area, read),
            device: area("device area", config.device_area, written),
        }
    }
}

/// One of them.
pub(super) struct Area<'table> {
    part: &'static str,
    start: Iova,
    direction: Direction,
    table: &'table RegionTable,
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
