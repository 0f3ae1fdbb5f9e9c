//! Pages of our own for data that the device cannot reach where the driver has it.

use super::dma::{DmaMemory, PAGE_BYTES};
use crate::mem::Segment;

/// A page, by its number.
pub(super) type Page = u16;

/// Free pages of a queue.
#[derive(Debug)]
pub(super) struct BouncePages {
    /// Where they begin in the queue's memory.
    start: u64,
    free: Vec<Page>,
}

impl BouncePages {
    /// Returns `count` free pages, which begin at byte `start` of the queue's memory.
    pub(super) fn new(start: u64, count: Page) -> Self {
        Self {
            start,
            free: (0..count).rev().collect(),
        }
    }

    /// Moves pages for `bytes` bytes to `pages`. Returns whether there were so many.
    pub(super) fn take(&mut self, bytes: u64, pages: &mut Vec<Page>) -> bool {
        let count = bytes.div_ceil(PAGE_BYTES) as usize;
        let Some(first) = self.free.len().checked_sub(count) else {
            return false;
        };
        pages.extend(self.free.drain(first..));
        true
    }

    /// Takes `pages` back.
    pub(super) fn give_back(&mut self, pages: &mut Vec<Page>) {
        self.free.append(pages);
    }

    /// Returns where `page` is in the queue's memory.
    pub(super) fn offset(&self, page: Page) -> u64 {
        self.start + u64::from(page) * PAGE_BYTES
    }
}

/// A place in the data of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: usize,
    pub(super) offset: usize,
}

impl Place {
    /// Returns the part of `segments` from here on that is in one piece and at most `bytes` long, and goes on behind it. An
    /// empty one says that there is nothing left.
    #[inline]
    pub(super) fn next<'memory>(
        &mut self,
        segments: &[Segment<'memory>],
        bytes: u64,
    ) -> Option<Segment<'memory>> {
        loop {
            let segment = segments.get(self.segment)?;
            let rest = segment.skip(self.offset);
            if rest.is_empty() {
                *self = Self {
                    segment: self.segment + 1,
                    offset: 0,
                };
                continue;
            }
            let piece = rest.first(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.offset += piece.len();
            return Some(piece);
        }
    }

    /// Goes on by `bytes` bytes.
    pub(super) fn skip(&mut self, segments: &[Segment<'_>], bytes: u64) {
        let mut left = bytes;
        while left > 0
            && let Some(piece) = self.next(segments, left)
        {
            left -= piece.len() as u64;
        }
    }
}

/// Which way data goes between pages and a driver's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    ToPages,
    ToDriver,
}

/// Copies `bytes` bytes between `pages` and the data of a request from `place` on.
pub(super) fn copy(
    memory: &DmaMemory,
    bounce: &BouncePages,
    pages: &[Page],
    segments: &[Segment<'_>],
    mut place: Place,
    bytes: u64,
    way: Copying,
) {
    let mut left = bytes;
    for page in pages {
        let length = left.min(PAGE_BYTES);
        left -= length;
        let Ok(mut page) = memory.segment(bounce.offset(*page), length) else {
            return;
        };
        while !page.is_empty()
            && let Some(piece) = place.next(segments, page.len() as u64)
        {
            match way {
                Copying::ToPages => piece.copy_to_segment(&page),
                Copying::ToDriver => page.copy_to_segment(&piece),
            };
            page = page.skip(piece.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::MmapRegion;

    #[test]
    fn pages_are_all_taken_or_none() {
        let mut bounce = BouncePages::new(0x8000, 3);
        let mut pages = Vec::new();
        assert!(bounce.take(4097, &mut pages));
        assert_eq!(pages.len(), 2);
        assert!(!bounce.take(8192, &mut Vec::new()));
        assert!(bounce.take(1, &mut pages));
        let mut offsets: Vec<u64> = pages.iter().map(|page| bounce.offset(*page)).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, [0x8000, 0x9000, 0xa000]);
        bounce.give_back(&mut pages);
        assert!(bounce.take(3 * 4096, &mut pages));
    }

    #[test]
    fn a_place_passes_empty_segments_and_the_end() {
        let region: MmapRegion = MmapRegion::new(4096).expect("memory");
        let part = |start, bytes| Segment::of_region(&region, start, bytes).expect("in it");
        let segments = [part(0, 5), part(5, 0), part(8, 3)];
        let mut place = Place::default();
        let mut lengths = Vec::new();
        while let Some(piece) = place.next(&segments, 4) {
            lengths.push(piece.len());
        }
        assert_eq!(lengths, [4, 1, 3]);
    }
}
