//! The region table: which I/O virtual addresses are which host memory.

use std::sync::Arc;

use super::{Access, Iova, Mapping, Segment, Shared, SharedArray, SharedCell};
use crate::limits::REGIONS_MAX;

/// Which way a buffer goes, seen from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// The device reads it.
    Readable,
    /// The device writes it.
    Writable,
}

/// A run of I/O virtual addresses backed by one mapping.
#[derive(Clone, Debug)]
pub struct Region {
    /// First address.
    pub first: Iova,
    /// Last address, inclusive, as in `struct vduse_iotlb_entry`.
    pub last: Iova,
    /// The memory; address `first` is its byte 0.
    pub mapping: Arc<Mapping>,
}

impl Region {
    /// Returns whether the device may use it in `direction`.
    fn allows(&self, direction: Direction) -> bool {
        match self.mapping.access() {
            Access::ReadWrite => true,
            Access::ReadOnly => direction == Direction::Readable,
            Access::WriteOnly => direction == Direction::Writable,
        }
    }

    /// Returns its memory; `None` when the mapping is too short, which no region of a table has.
    pub(super) fn memory(&self) -> Option<Segment<'_>> {
        let bytes = usize::try_from(self.last.0 - self.first.0).ok()?;
        let bytes = bytes.checked_add(1)?;
        Segment::of_region(self.mapping.region(), self.mapping.lead(), bytes)
    }
}

/// Why a set of regions cannot be served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The kernel's own limit is lower, so this is a broken caller.
    #[error("{0} memory regions; at most {REGIONS_MAX} are served")]
    TooMany(usize),
    /// Two regions claim one address, or one ends before it starts.
    #[error("the memory region at {0} is empty or overlaps another")]
    Overlap(Iova),
    /// The mapping is shorter than the addresses it backs.
    #[error("the memory region at {0} is longer than its mapping")]
    Short(Iova),
}

/// Why an address of the driver's cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// No region holds the whole buffer.
    #[error("address {iova} with {bytes} bytes is not mapped")]
    Unmapped {
        /// Start of the buffer.
        iova: Iova,
        /// Its length.
        bytes: u64,
    },
    /// The region may not be used in this direction.
    #[error("address {0} may not be used in this direction")]
    Forbidden(Iova),
    /// A ring part is not aligned as VIRTIO 1.3, 2.7 asks.
    #[error("address {0} is not aligned")]
    Misaligned(Iova),
}

/// An immutable snapshot of the driver's address space. Control publishes a new one when mappings
/// change; a worker uses the one it has acknowledged.
#[derive(Debug, Default)]
pub struct RegionTable {
    /// Sorted by `first`, disjoint.
    regions: Vec<Region>,
}

impl RegionTable {
    /// Returns a table of `regions`, in any order.
    ///
    /// # Errors
    ///
    /// [`TableError`] when they overlap, outgrow their mappings or are too many.
    pub fn new(mut regions: Vec<Region>) -> Result<Self, TableError> {
        if regions.len() > REGIONS_MAX {
            return Err(TableError::TooMany(regions.len()));
        }
        regions.sort_by_key(|region| region.first);
        let mut free_from = Some(Iova(0));
        for region in &regions {
            if free_from.is_none_or(|free| region.first < free) || region.last < region.first {
                return Err(TableError::Overlap(region.first));
            }
            if region.last.0 - region.first.0 >= region.mapping.len() as u64 {
                return Err(TableError::Short(region.first));
            }
            free_from = region.last.checked_add(1);
        }
        Ok(Self { regions })
    }

    /// Returns the regions, sorted by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn region_at(&self, iova: Iova) -> Option<&Region> {
        let index = self.regions.partition_point(|region| region.last < iova);
        self.regions
            .get(index)
            .filter(|region| region.first <= iova)
    }

    /// Returns the region that `iova` is in. `bytes` is for the error alone.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when there is none or it may not be used that way.
    pub(super) fn region_for(
        &self,
        iova: Iova,
        bytes: u64,
        direction: Direction,
    ) -> Result<&Region, TranslateError> {
        match self.region_at(iova) {
            None => Err(TranslateError::Unmapped { iova, bytes }),
            Some(region) if region.allows(direction) => Ok(region),
            Some(_) => Err(TranslateError::Forbidden(iova)),
        }
    }

    /// Returns the longest prefix of `bytes` bytes from `iova` on that lies in one region. Its length
    /// is at least 1 where `bytes` is.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when `iova` is not mapped or may not be used that way.
    pub fn prefix(
        &self,
        iova: Iova,
        bytes: u64,
        direction: Direction,
    ) -> Result<Segment<'_>, TranslateError> {
        let region = self.region_for(iova, bytes, direction)?;
        let memory = region
            .memory()
            .ok_or(TranslateError::Unmapped { iova, bytes })?;
        let rest = memory.skip((iova.0 - region.first.0) as usize);
        Ok(rest.first(usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    /// Returns the `bytes` bytes from `iova` on, which must lie in one region.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when they do not, or may not be used that way.
    #[inline]
    pub fn segment(
        &self,
        iova: Iova,
        bytes: u64,
        direction: Direction,
    ) -> Result<Segment<'_>, TranslateError> {
        let segment = self.prefix(iova, bytes, direction)?;
        if segment.len() as u64 == bytes {
            Ok(segment)
        } else {
            Err(TranslateError::Unmapped { iova, bytes })
        }
    }

    /// Copies `bytes.len()` bytes from `iova` on, across adjacent regions where they meet.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when part of it is not mapped or not readable.
    #[inline]
    pub fn read(&self, iova: Iova, bytes: &mut [u8]) -> Result<(), TranslateError> {
        let mut done = 0;
        while done < bytes.len() {
            let left = (bytes.len() - done) as u64;
            let unmapped = TranslateError::Unmapped { iova, bytes: left };
            let from = iova.checked_add(done as u64).ok_or(unmapped)?;
            let segment = self.prefix(from, left, Direction::Readable)?;
            done += segment.copy_to(&mut bytes[done..]);
        }
        Ok(())
    }

    /// Writes one byte at `iova`.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when it is not mapped or not writable.
    #[inline]
    pub fn store_byte(&self, iova: Iova, value: u8) -> Result<(), TranslateError> {
        self.segment(iova, 1, Direction::Writable)?
            .store_last(value);
        Ok(())
    }

    /// Returns the element at `iova`. It keeps the memory mapped as long as it lives.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when it is not mapped, not aligned or may not be used that way.
    pub fn cell<S: Shared>(
        &self,
        iova: Iova,
        direction: Direction,
    ) -> Result<SharedCell<S>, TranslateError> {
        Ok(SharedCell::new(self.array(iova, 1, direction)?))
    }

    /// Returns the `count` elements from `iova` on, `count` a power of two. They keep the memory mapped
    /// as long as they live.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] as for [`cell`](Self::cell).
    pub fn array<S: Shared>(
        &self,
        iova: Iova,
        count: u16,
        direction: Direction,
    ) -> Result<SharedArray<S>, TranslateError> {
        let bytes = u64::from(count) * size_of::<S>() as u64;
        let segment = self.segment(iova, bytes, direction)?;
        let region = self.region_for(iova, bytes, direction)?;
        let mapping = Arc::clone(&region.mapping);
        SharedArray::new(segment, mapping).ok_or(TranslateError::Misaligned(iova))
    }

    /// Returns the start and size of the page of driver memory that holds host address `address`, and
    /// the mapping that it belongs to.
    pub(super) fn page_at(&self, address: usize) -> Option<(usize, &Mapping)> {
        self.regions.iter().find_map(|region| {
            let memory = region.mapping.region();
            let offset = address.checked_sub(memory.as_ptr() as usize)?;
            let page = address - offset % region.mapping.page_bytes();
            (offset < memory.size()).then_some((page, &*region.mapping))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::{memory, region};

    #[test]
    fn translates_inside_one_region_only() {
        let table = RegionTable::new(vec![region(0x1000, 0x1000), region(0x4000, 0x2000)]).unwrap();
        let whole = table
            .segment(Iova(0x4000), 0x2000, Direction::Writable)
            .unwrap();
        assert_eq!(whole.len(), 0x2000);
        for (iova, bytes) in [
            (0xfff, 1),
            (0x1000, 0x1001),
            (0x2000, 1),
            (0x5fff, 2),
            (u64::MAX, 2),
        ] {
            let found = table.segment(Iova(iova), bytes, Direction::Readable);
            assert!(found.is_err(), "{iova:#x} + {bytes:#x} must not be mapped");
        }
    }

    #[test]
    fn adjacent_regions_are_split_not_joined() {
        let table = RegionTable::new(vec![region(0x2000, 0x1000), region(0x1000, 0x1000)]).unwrap();
        let first = table
            .prefix(Iova(0x1f00), 0x200, Direction::Readable)
            .unwrap();
        assert_eq!(first.len(), 0x100);
        assert!(
            table
                .segment(Iova(0x1f00), 0x200, Direction::Readable)
                .is_err()
        );
    }

    #[test]
    fn refuses_overlap_and_short_mappings() {
        let overlapping = RegionTable::new(vec![region(0x1000, 0x2000), region(0x2000, 0x1000)]);
        assert_eq!(overlapping.err(), Some(TableError::Overlap(Iova(0x2000))));
        let short = Region {
            last: Iova(0x4000),
            ..region(0x1000, 0x1000)
        };
        assert_eq!(
            RegionTable::new(vec![short]).err(),
            Some(TableError::Short(Iova(0x1000)))
        );
    }

    #[test]
    fn access_is_checked_by_direction() {
        let mapping = Arc::new(Mapping::new(memory(0x1000), 0, 0x1000, Access::ReadOnly).unwrap());
        let table = RegionTable::new(vec![Region {
            first: Iova(0),
            last: Iova(0xfff),
            mapping,
        }])
        .unwrap();
        assert!(table.segment(Iova(0), 16, Direction::Readable).is_ok());
        let forbidden = table.segment(Iova(0), 16, Direction::Writable);
        assert_eq!(forbidden.err(), Some(TranslateError::Forbidden(Iova(0))));
    }

    #[test]
    fn misaligned_ring_parts_are_refused() {
        let table = RegionTable::new(vec![region(0, 0x1000)]).unwrap();
        let odd = table.array::<std::sync::atomic::AtomicU16>(Iova(1), 4, Direction::Readable);
        assert_eq!(odd.err(), Some(TranslateError::Misaligned(Iova(1))));
    }
}
