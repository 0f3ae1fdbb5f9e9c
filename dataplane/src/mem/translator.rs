//! From I/O virtual addresses to memory, at the cost of two comparisons where a region is hit again.
//!
//! # Safety
//!
//! A [`Window`] is made from a region of its translator's own table, whose bounds the table has checked against
//! the mapping. It never leaves the translator, and the segments from it borrow that.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Direction, Iova, Region, RegionTable, Segment, TranslateError};

/// A region of one table, flat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    first: Iova,
    bytes: u64,
    start: NonNull<u8>,
}

impl Window {
    /// A window that no address is in.
    const EMPTY: Self = Self {
        first: Iova(0),
        bytes: 0,
        start: NonNull::dangling(),
    };

    /// Returns `region`, which a table holds.
    fn of(region: &Region) -> Option<Self> {
        let memory = region.memory()?;
        Some(Self {
            first: region.first,
            bytes: memory.len() as u64,
            start: NonNull::new(memory.as_ptr())?,
        })
    }
}

/// Translates for one worker. Remembers two regions a direction, because a driver may keep what it writes itself,
/// such as headers, apart from the data.
#[derive(Debug)]
pub struct Translator {
    table: Arc<RegionTable>,
    /// The regions that were last read from, and those that were last written to.
    readable: [Cell<Window>; 2],
    writable: [Cell<Window>; 2],
}

impl Translator {
    /// Returns a translator for the addresses of `table`.
    pub fn new(table: Arc<RegionTable>) -> Self {
        Self {
            table,
            readable: [const { Cell::new(Window::EMPTY) }; 2],
            writable: [const { Cell::new(Window::EMPTY) }; 2],
        }
    }

    /// Returns the table.
    #[inline]
    pub fn table(&self) -> &RegionTable {
        &self.table
    }

    /// Returns the `bytes` bytes from `iova` on for reading if they are in a region that was last read from;
    /// `None` says nothing yet.
    #[inline]
    pub fn readable_again(&self, iova: Iova, bytes: u64) -> Option<Segment<'_>> {
        let [newest, other] = &self.readable;
        self.whole(newest.get(), iova, bytes)
            .or_else(|| self.whole(other.get(), iova, bytes))
    }

    /// The same for writing.
    #[inline]
    pub fn writable_again(&self, iova: Iova, bytes: u64) -> Option<Segment<'_>> {
        let [newest, other] = &self.writable;
        self.whole(newest.get(), iova, bytes)
            .or_else(|| self.whole(other.get(), iova, bytes))
    }

    /// Returns the longest prefix of `bytes` bytes from `iova` on that lies in one region.
    ///
    /// # Errors
    ///
    /// [`TranslateError`] when `iova` is not mapped or may not be used that way, or `bytes` is 0.
    pub fn prefix(
        &self,
        iova: Iova,
        bytes: u64,
        direction: Direction,
    ) -> Result<Segment<'_>, TranslateError> {
        let region = self.table.region_for(iova, bytes, direction)?;
        let [newest, other] = match direction {
            Direction::Readable => &self.readable,
            Direction::Writable => &self.writable,
        };
        let unmapped = TranslateError::Unmapped { iova, bytes };
        let window = Window::of(region).ok_or(unmapped)?;
        if newest.get() != window {
            other.set(newest.replace(window));
        }
        let in_region = window.bytes - (iova.0 - window.first.0);
        let prefix = self.whole(window, iova, bytes.min(in_region));
        prefix.ok_or(unmapped)
    }

    /// Returns the `bytes` bytes from `iova` on; `None` when they are none or not all in `window`, which is one
    /// of this translator's.
    #[inline]
    fn whole(&self, window: Window, iova: Iova, bytes: u64) -> Option<Segment<'_>> {
        let offset = iova.0.wrapping_sub(window.first.0);
        // Less one, so that no bytes are as bad as too many.
        if offset >= window.bytes || bytes.wrapping_sub(1) >= window.bytes - offset {
            return None;
        }
        // SAFETY: `offset` is below the length of the window, and `bytes` is at most what is left of it
        // there; the window's memory is mapped as long as the table lives, which `self` holds.
        Some(unsafe { Segment::new(window.start.add(offset as usize), bytes as usize) })
    }
}
