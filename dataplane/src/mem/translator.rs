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

    /// Returns the longest prefix of `bytes` bytes from `iova` on that is in the window; `None` when there
    /// is none.
    #[inline]
    fn prefix(&self, iova: Iova, bytes: u64) -> Option<Segment<'table>> {
        let offset = iova.0.wrapping_sub(self.first.0);
        if offset >= self.bytes {
            return None;
        }
        let bytes = bytes.min(self.bytes - offset) as usize;
        // SAFETY: `offset` is below the length of the window, and `bytes` is at most what is left of it
        // there; the window's memory is mapped as long as its table lives, see the module's header.
        Some(unsafe { Segment::new(self.start.add(offset as usize), bytes) })
    }
}

/// Translates for one worker; remembers the last region of each direction.
#[derive(Debug)]
pub struct Translator<'table> {
    table: &'table RegionTable,
    /// By direction: a region that may not be used that way is in neither.
    last: [Window<'table>; 2],
}

impl<'table> Translator<'table> {
    /// Returns a translator for the addresses of `table`.
    pub fn new(table: &'table RegionTable) -> Self {
        Self {
            table,
            last: [Window::EMPTY; 2],
        }
    }

    /// Returns the table.
    pub fn table(&self) -> &'table RegionTable {
        self.table
    }

    /// Returns the longest prefix of `bytes` bytes from `iova` on that lies in one region. Its length
    /// is at least 1 where `bytes` is.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when `iova` is not mapped or may not be used that way.
    #[inline]
    pub fn prefix(
        &mut self,
        iova: Iova,
        bytes: u64,
        direction: Direction,
    ) -> Result<Segment<'table>, TranslateError> {
        match self.last[direction as usize].prefix(iova, bytes) {
            Some(segment) => Ok(segment),
            None => self.look_up(iova, bytes, direction),
        }
    }

    #[cold]
    #[inline(never)]
    fn look_up(
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
        self.last[direction as usize] = window;
        window.prefix(iova, bytes).ok_or(unmapped)
    }
}
