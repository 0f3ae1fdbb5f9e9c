//! The segments of one chain, in a place of fixed size that is not cleared in between.
//!
//! # Safety
//!
//! The first `count` places are initialised: [`Writer::finish`] and [`Segments::push`] are all that raise it,
//! each after writing what it counts.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use crate::limits::SEGMENTS_MAX;
use crate::mem::Segment;

/// Up to [`SEGMENTS_MAX`] segments.
#[derive(Debug)]
pub(super) struct Segments<'table> {
    places: [MaybeUninit<Segment<'table>>; SEGMENTS_MAX],
    count: usize,
}

impl<'table> Segments<'table> {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            places: [const { MaybeUninit::uninit() }; SEGMENTS_MAX],
            count: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[Segment<'table>] {
        // SAFETY: `count` is at most the number of places, and that many of them are initialised.
        unsafe { std::slice::from_raw_parts(self.places.as_ptr().cast(), self.count) }
    }

    #[inline]
    pub(super) fn as_mut_slice(&mut self) -> &mut [Segment<'table>] {
        // SAFETY: as in `as_slice`; `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.places.as_mut_ptr().cast(), self.count) }
    }

    /// Adds `segment`. Returns whether there was room.
    pub(super) fn push(&mut self, segment: Segment<'table>) -> bool {
        let Some(place) = self.places.get_mut(self.count) else {
            return false;
        };
        place.write(segment);
        self.count += 1;
        true
    }

    /// Begins anew. The contents are what they were, or of them what was not overwritten, until
    /// [`Writer::finish`].
    #[inline]
    pub(super) fn writer(&mut self) -> Writer<'_, 'table> {
        Writer {
            segments: self,
            count: 0,
        }
    }
}

/// Fills [`Segments`] from the start. The count is its own, so that a loop keeps it in a register.
pub(super) struct Writer<'segments, 'table> {
    segments: &'segments mut Segments<'table>,
    count: usize,
}

impl<'table> Writer<'_, 'table> {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Adds `segment`. Returns whether there was room.
    #[inline]
    pub(super) fn push(&mut self, segment: Segment<'table>) -> bool {
        let Some(place) = self.segments.places.get_mut(self.count) else {
            return false;
        };
        place.write(segment);
        self.count += 1;
        true
    }

    /// Makes what was pushed the contents.
    #[inline]
    pub(super) fn finish(self) {
        self.segments.count = self.count;
    }
}
