//! From I/O virtual addresses to memory, at the cost of two comparisons where the last region is hit again.
//!
//! # Safety
//!
//! A [`Window`] is made from a region of a table that outlives it, whose bounds the table has checked
//! against the mapping.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::{Direction, Iova, Region, RegionTable, Segment, TranslateError};

/// A region of one table, flat.
#[derive(Clone, Copy, Debug)]
struct Window<'table> {
    first: Iova,
    bytes: u64,
    start: NonNull<u8>,
    _table: PhantomData<&'table RegionTable>,
}

impl<'table> Window<'table> {
    /// A window that no address is in.
    const EMPTY: Self = Self {
        first: Iova(0),
        bytes: 0,
        start: NonNull::dangling(),
        _table: PhantomData,
    };

    /// Returns `region` of the table, if it may be used in that direction.
    #[inline]
    fn of(region: &'table Region, direction: Direction) -> Option<Self> {
        if !region.allows(direction) {
            return None;
        }
        let memory = region.memory()?;
        Some(Self {
            first: region.first,
            bytes: memory.len() as u64,
            start: NonNull::new(memory.as_ptr())?,
            _table: PhantomData,
        })
    }

    /// Returns the `bytes` bytes from `iova` on; `None` when they are none or not all in the window.
    #[inline]
    fn whole(&self, iova: Iova, bytes: u64) -> Option<Segment<'table>> {
        let offset = iova.0.wrapping_sub(self.first.0);
        // Less one, so that no bytes are as bad as too many.
        if offset >= self.bytes || bytes.wrapping_sub(1) >= self.bytes - offset {
            return None;
        }
        // SAFETY: `offset` is below the length of the window, and `bytes` is at most what is left of it
        // there; the window's memory is mapped as long as its table lives, see the module's header.
        Some(unsafe { Segment::new(self.start.add(offset as usize), bytes as usize) })
    }

    /// Returns the longest prefix of `bytes` bytes from `iova` on that is in the window; `None` when there
    /// is none.
    fn prefix(&self, iova: Iova, bytes: u64) -> Option<Segment<'table>> {
        let offset = iova.0.wrapping_sub(self.first.0);
        if offset >= self.bytes {
            return None;
        }
        let bytes = bytes.min(self.bytes - offset) as usize;
        // SAFETY: as in `whole`.
        Some(unsafe { Segment::new(self.start.add(offset as usize), bytes) })
    }
}

/// Which regions of a table were hit last, for the next translator of the same table: two a direction, because
/// a driver may keep what it writes itself, such as headers, apart from the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRegions {
    readable: [usize; 2],
    writable: [usize; 2],
}

impl Default for LastRegions {
    /// The first region, for the one that most tables have, and none.
    fn default() -> Self {
        Self {
            readable: [0, usize::MAX],
            writable: [0, usize::MAX],
        }
    }
}

/// Translates for one worker; remembers the last two regions of each direction.
#[derive(Debug)]
pub struct Translator<'table> {
    table: &'table RegionTable,
    last: LastRegions,
    /// The regions that were last read from, and those that were last written to.
    readable: [Window<'table>; 2],
    writable: [Window<'table>; 2],
}

impl<'table> Translator<'table> {
    /// Returns a translator for the addresses of `table` that begins with the regions `last`.
    #[inline]
    pub fn new(table: &'table RegionTable, last: LastRegions) -> Self {
        let window = |index: usize, direction| {
            let region = table.regions().get(index)?;
            Window::of(region, direction)
        };
        let windows = |indexes: [usize; 2], direction| {
            indexes.map(|index| window(index, direction).unwrap_or(Window::EMPTY))
        };
        Self {
            table,
            last,
            readable: windows(last.readable, Direction::Readable),
            writable: windows(last.writable, Direction::Writable),
        }
    }

    /// Returns which regions were hit last.
    #[inline]
    pub fn last(&self) -> LastRegions {
        self.last
    }

    /// Returns the table.
    pub fn table(&self) -> &'table RegionTable {
        self.table
    }

    /// Returns the `bytes` bytes from `iova` on for reading if they are in a region that was last read from;
    /// `None` says nothing yet.
    #[inline]
    pub fn readable_again(&self, iova: Iova, bytes: u64) -> Option<Segment<'table>> {
        let [newest, other] = &self.readable;
        newest
            .whole(iova, bytes)
            .or_else(|| other.whole(iova, bytes))
    }

    /// The same for writing.
    #[inline]
    pub fn writable_again(&self, iova: Iova, bytes: u64) -> Option<Segment<'table>> {
        let [newest, other] = &self.writable;
        newest
            .whole(iova, bytes)
            .or_else(|| other.whole(iova, bytes))
    }

    /// Returns the longest prefix of `bytes` bytes from `iova` on that lies in one region. Its length
    /// is at least 1 where `bytes` is.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when `iova` is not mapped or may not be used that way.
    pub fn prefix(
        &mut self,
        iova: Iova,
        bytes: u64,
        direction: Direction,
    ) -> Result<Segment<'table>, TranslateError> {
        let unmapped = TranslateError::Unmapped { iova, bytes };
        let index = self.table.index_for(iova, bytes, direction)?;
        let region = self.table.regions().get(index).ok_or(unmapped)?;
        let window = Window::of(region, direction).ok_or(unmapped)?;
        let (windows, indexes) = match direction {
            Direction::Readable => (&mut self.readable, &mut self.last.readable),
            Direction::Writable => (&mut self.writable, &mut self.last.writable),
        };
        if !indexes.contains(&index) {
            *windows = [window, windows[0]];
            *indexes = [index, indexes[0]];
        }
        window.prefix(iova, bytes).ok_or(unmapped)
    }
}
