//! From I/O virtual addresses to memory, at the cost of two comparisons where the last region is hit again.
//!
//! # Safety
//!
//! A [`Window`] is made from a region of a table that outlives it, whose bounds the table has checked
//! against the mapping.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::{Direction, Iova, RegionTable, Segment, TranslateError};

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

/// Translates for one worker; remembers the last region of each direction.
#[derive(Debug)]
pub struct Translator<'table> {
    table: &'table RegionTable,
    /// The last region that was read from, and the last that was written to.
    readable: Window<'table>,
    writable: Window<'table>,
}

impl<'table> Translator<'table> {
    /// Returns a translator for the addresses of `table`.
    pub fn new(table: &'table RegionTable) -> Self {
        Self {
            table,
            readable: Window::EMPTY,
            writable: Window::EMPTY,
        }
    }

    /// Returns the table.
    pub fn table(&self) -> &'table RegionTable {
        self.table
    }

    /// Returns the `bytes` bytes from `iova` on for reading if they are in the region that was last read
    /// from; `None` says nothing yet.
    #[inline]
    pub fn readable_again(&self, iova: Iova, bytes: u64) -> Option<Segment<'table>> {
        self.readable.whole(iova, bytes)
    }

    /// The same for writing.
    #[inline]
    pub fn writable_again(&self, iova: Iova, bytes: u64) -> Option<Segment<'table>> {
        self.writable.whole(iova, bytes)
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
        let region = self.table.region_for(iova, bytes, direction)?;
        let memory = region.memory().ok_or(unmapped)?;
        let window = Window {
            first: region.first,
            bytes: memory.len() as u64,
            start: NonNull::new(memory.as_ptr()).ok_or(unmapped)?,
            _table: PhantomData,
        };
        match direction {
            Direction::Readable => self.readable = window,
            Direction::Writable => self.writable = window,
        }
        window.prefix(iova, bytes).ok_or(unmapped)
    }
}
