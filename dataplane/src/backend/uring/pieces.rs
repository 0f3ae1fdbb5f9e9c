//! The driver's memory that a pending request has yet to use.
//!
//! # Safety
//!
//! Segments outlive the borrow that they came with. The contract of a backend allows that until the token is returned
//! or `abandon` has returned; the queue drops them with the request before either.

#![allow(unsafe_code)]

use std::ptr::NonNull;

use arrayvec::ArrayVec;

use crate::blk::Data;
use crate::limits::SEGMENTS_MAX;
use crate::mem::Segment;

/// Pieces that are kept with their request. A request of Linux rarely has more.
const FEW: usize = 8;

/// Requests with more pieces, at most.
const MANY: usize = 16;

/// What is left of the data of one request, in order.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: Kept,
    /// Those before are used up.
    first: usize,
}

#[derive(Debug)]
enum Kept {
    Few(ArrayVec<Segment<'static>, FEW>),
    Many(Vec<Segment<'static>>),
}

/// Room for the pieces of long requests.
#[derive(Debug)]
pub(super) struct Long(Vec<Vec<Segment<'static>>>);

impl Long {
    pub(super) fn new() -> Self {
        let one = || Vec::with_capacity(SEGMENTS_MAX);
        Self(std::iter::repeat_with(one).take(MANY).collect())
    }

    /// Takes the room of `pieces` back.
    pub(super) fn give_back(&mut self, pieces: Pieces) {
        if let Kept::Many(mut room) = pieces.pieces {
            room.clear();
            self.0.push(room);
        }
    }
}

impl Pieces {
    /// Returns `data` without empty segments, those that meet as one; `None` when it is long and there is no room now.
    pub(super) fn new(data: Data<'_, '_>, long: &mut Long) -> Option<Self> {
        let mut few = ArrayVec::new();
        for (place, segment) in data.iter().enumerate() {
            if !add(&mut few, segment) {
                let mut many = long.0.pop()?;
                many.extend(few);
                // A chain has no more segments than there is room for.
                for segment in &data[place..] {
                    add(&mut many, segment);
                }
                let pieces = Kept::Many(many);
                return Some(Self { pieces, first: 0 });
            }
        }
        let pieces = Kept::Few(few);
        Some(Self { pieces, first: 0 })
    }

    /// Returns what is left.
    #[inline]
    pub(super) fn left(&self) -> &[Segment<'static>] {
        match &self.pieces {
            Kept::Few(few) => &few[self.first..],
            Kept::Many(many) => &many[self.first..],
        }
    }

    /// Returns whether each begins at a multiple of `align_bytes` and has a multiple of `block_bytes`.
    #[inline]
    pub(super) fn are_aligned(&self, align_bytes: usize, block_bytes: usize) -> bool {
        let is_aligned = |piece: &Segment<'_>| {
            (piece.as_ptr() as usize).is_multiple_of(align_bytes)
                && piece.len().is_multiple_of(block_bytes)
        };
        self.left().iter().all(is_aligned)
    }

    /// Uses `bytes` bytes up.
    pub(super) fn advance(&mut self, mut bytes: usize) {
        let pieces = match &mut self.pieces {
            Kept::Few(few) => few.as_mut_slice(),
            Kept::Many(many) => many.as_mut_slice(),
        };
        while let Some(piece) = pieces.get_mut(self.first) {
            if piece.len() > bytes {
                *piece = piece.skip(bytes);
                return;
            }
            bytes -= piece.len();
            self.first += 1;
        }
    }

    /// Fills `buffer` from what is left, as much as fits. Uses nothing up.
    pub(super) fn copy_to(&self, mut buffer: Segment<'_>) {
        for piece in self.left() {
            let copied = piece.copy_to_segment(&buffer);
            buffer = buffer.skip(copied);
        }
    }

    /// Fills what is left from `buffer`, as much as there is. Uses nothing up.
    pub(super) fn copy_from(&self, mut buffer: Segment<'_>) {
        for piece in self.left() {
            let copied = buffer.copy_to_segment(piece);
            buffer = buffer.skip(copied);
        }
    }
}

/// Somewhere to add segments to.
trait Room {
    fn last(&mut self) -> Option<&mut Segment<'static>>;
    fn push(&mut self, segment: Segment<'static>) -> bool;
}

impl Room for ArrayVec<Segment<'static>, FEW> {
    fn last(&mut self) -> Option<&mut Segment<'static>> {
        self.as_mut_slice().last_mut()
    }

    fn push(&mut self, segment: Segment<'static>) -> bool {
        self.try_push(segment).is_ok()
    }
}

impl Room for Vec<Segment<'static>> {
    fn last(&mut self) -> Option<&mut Segment<'static>> {
        self.as_mut_slice().last_mut()
    }

    fn push(&mut self, segment: Segment<'static>) -> bool {
        let fits = self.len() < self.capacity();
        if fits {
            self.push(segment);
        }
        fits
    }
}

/// Adds `segment` to `room`. Returns whether there was room.
fn add(room: &mut impl Room, segment: &Segment<'_>) -> bool {
    if segment.is_empty() {
        return true;
    }
    if let Some(last) = room.last()
        && last.as_ptr().wrapping_add(last.len()) == segment.as_ptr()
        && let Some(first) = NonNull::new(last.as_ptr())
    {
        // SAFETY: both are mapped as long, see below, and the one begins where the other ends.
        *last = unsafe { Segment::new(first, last.len() + segment.len()) };
        return true;
    }
    // SAFETY: the worker keeps the memory of a pending operation mapped until its token is returned or `abandon` has
    // returned, and the queue drops this with the request before either.
    room.push(unsafe { segment.outliving() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::MmapRegion;

    fn lengths(pieces: &Pieces) -> Vec<usize> {
        pieces.left().iter().map(Segment::len).collect()
    }

    #[test]
    fn what_meets_is_one_and_what_is_long_takes_room() {
        let region = MmapRegion::new(1 << 16).unwrap();
        let at = |offset, bytes| Segment::of_region(&region, offset, bytes).unwrap();
        let mut long = Long::new();
        let pieces = Pieces::new(
            &[at(0, 512), at(512, 512), at(9, 0), at(2048, 512)],
            &mut long,
        );
        let mut pieces = pieces.unwrap();
        assert_eq!(lengths(&pieces), [1024, 512]);
        assert!(pieces.are_aligned(512, 512) && !pieces.are_aligned(1024, 1024));
        pieces.advance(1000);
        assert_eq!(lengths(&pieces), [24, 512]);
        pieces.advance(24);
        assert_eq!(lengths(&pieces), [512]);
        pieces.advance(512);
        assert!(pieces.left().is_empty());
        let apart: Vec<_> = (0..40).map(|place| at(place * 1024, 512)).collect();
        let all: Vec<_> = (0..MANY)
            .map(|_| Pieces::new(&apart, &mut long).unwrap())
            .collect();
        assert!(all.iter().all(|pieces| lengths(pieces) == [512; 40]));
        assert!(Pieces::new(&apart, &mut long).is_none());
        all.into_iter().for_each(|pieces| long.give_back(pieces));
        assert!(Pieces::new(&apart, &mut long).is_some());
    }

    #[test]
    fn bytes_go_both_ways_past_the_ends_of_pieces() {
        let region = MmapRegion::new(4096).unwrap();
        let at = |offset, bytes| Segment::of_region(&region, offset, bytes).unwrap();
        let mut long = Long::new();
        let mut pieces = Pieces::new(&[at(1, 3), at(10, 2)], &mut long).unwrap();
        let buffer = at(100, 8);
        buffer.copy_from(b"abcdefgh");
        pieces.copy_from(buffer.first(4));
        let mut found = [0; 12];
        at(0, 12).copy_to(&mut found);
        assert_eq!(&found, b"\0abc\0\0\0\0\0\0d\0");
        pieces.advance(2);
        pieces.copy_to(buffer);
        buffer.copy_to(&mut found[..8]);
        assert_eq!(&found[..8], b"cd\0defgh");
    }
}
