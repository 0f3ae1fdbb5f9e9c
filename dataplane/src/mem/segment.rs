//! Bytes of driver memory, and how they are read and written.
//!
//! # Safety
//!
//! A [`Segment`] is made only from a mapping that outlives `'table`, with its bounds checked. The driver may
//! change the bytes at any time, so no reference to them is ever made: they are copied, and what a
//! decision rests on is loaded once, with a volatile load that the compiler may not repeat.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use vm_memory::MmapRegion;

/// The smallest page of any machine: steps of it miss none.
const PAGE_BYTES: usize = 4096;

/// Driver memory: bounds-checked, valid as long as the region table it came from. Laid out as `struct
/// iovec`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Segment<'table> {
    start: NonNull<u8>,
    bytes: usize,
    _table: PhantomData<&'table MmapRegion>,
}

// SAFETY: it is an address and a length; what it points to may be copied from and to on any thread.
unsafe impl Send for Segment<'_> {}

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned<T>(T);

impl<'table> Segment<'table> {
    /// Returns the `bytes` bytes of `region` from `offset` on; `None` when they are not all in it.
    pub fn of_region(region: &'table MmapRegion, offset: usize, bytes: usize) -> Option<Self> {
        if offset.checked_add(bytes)? > region.size() {
            return None;
        }
        // SAFETY: `offset` was just checked to lie in the region, or at its end for no bytes.
        let start = NonNull::new(unsafe { region.as_ptr().add(offset) })?;
        // SAFETY: the bounds were just checked, and the region lives for 'table.
        Some(unsafe { Self::new(start, bytes) })
    }

    /// Returns the `bytes` bytes at `start`.
    ///
    /// # Safety
    ///
    /// They are mapped for all of `'table`, for reading and, where they are written, for writing.
    #[inline]
    pub unsafe fn new(start: NonNull<u8>, bytes: usize) -> Self {
        Self {
            start,
            bytes,
            _table: PhantomData,
        }
    }

    /// Returns it for longer than the borrow that it came with.
    ///
    /// # Safety
    ///
    /// It is not used any more once its memory is unmapped.
    #[inline]
    pub unsafe fn outliving(&self) -> Segment<'static> {
        // SAFETY: it is mapped now, and the caller promises that it is as long as this is used.
        unsafe { Segment::new(self.start, self.bytes) }
    }

    /// Returns its length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Returns whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns the address of its first byte in this process.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns its first `bytes` bytes, or all of it when it is shorter.
    #[inline]
    pub fn first(&self, bytes: usize) -> Self {
        Self {
            bytes: bytes.min(self.bytes),
            ..*self
        }
    }

    /// Returns what is left without its first `bytes` bytes; nothing when it is shorter.
    #[inline]
    pub fn skip(&self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        // SAFETY: `bytes` is at most the length, so the address is in the segment or at its end.
        let start = unsafe { self.start.add(bytes) };
        Self {
            start,
            bytes: self.bytes - bytes,
            ..*self
        }
    }

    /// Returns the two little-endian words from `offset` on, each loaded once; `None` when they are not all in
    /// the segment.
    #[inline]
    pub fn load_two_u64(&self, offset: usize) -> Option<(u64, u64)> {
        if self.bytes < 16 || offset > self.bytes - 16 {
            return None;
        }
        // SAFETY: the sixteen bytes from `offset` on are in the segment, as just checked; `Unaligned` asks for
        // no alignment, and every value is a u64.
        let (low, high) = unsafe {
            let words = self.start.add(offset).cast::<Unaligned<u64>>();
            (words.read_volatile(), words.add(1).read_volatile())
        };
        Some((u64::from_le(low.0), u64::from_le(high.0)))
    }

    /// Reads a byte of each of its pages, which has the kernel map those that are not yet.
    pub(crate) fn touch(&self) {
        let last = self.bytes.saturating_sub(1);
        for offset in (0..self.bytes).step_by(PAGE_BYTES).chain([last]) {
            if offset < self.bytes {
                // SAFETY: the offset is in the segment, as just checked.
                let _ = unsafe { self.start.add(offset).read_volatile() };
            }
        }
    }

    /// Stores `value` in its last byte; does nothing when there is none.
    #[inline]
    pub fn store_last(&self, value: u8) {
        if self.bytes > 0 {
            // SAFETY: the segment has a last byte, as just checked.
            unsafe { self.start.add(self.bytes - 1).write_volatile(value) };
        }
    }

    /// Copies as much as fits to `bytes`. Returns how much that was.
    #[inline]
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let count = self.bytes.min(bytes.len());
        // SAFETY: both sides have `count` bytes; `bytes` is private to us, so they do not overlap.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), bytes.as_mut_ptr(), count) };
        count
    }

    /// Fills it from `bytes`, as much as fits. Returns how much that was.
    #[inline]
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let count = self.bytes.min(bytes.len());
        // SAFETY: both sides have `count` bytes; `bytes` is private to us, so they do not overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr(), count) };
        count
    }

    /// Copies as much as fits to `other`, which may overlap. Returns how much that was.
    #[inline]
    pub fn copy_to_segment(&self, other: &Segment<'_>) -> usize {
        let count = self.bytes.min(other.bytes);
        // SAFETY: both sides have `count` bytes; `copy` allows overlap, which a driver can cause.
        unsafe { ptr::copy(self.start.as_ptr(), other.start.as_ptr(), count) };
        count
    }

    /// Fills it with zeros.
    #[inline]
    pub fn zero(&self) {
        // SAFETY: the segment has that many bytes.
        unsafe { ptr::write_bytes(self.start.as_ptr(), 0, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> MmapRegion {
        MmapRegion::new(4096).expect("memory")
    }

    #[test]
    fn nothing_reaches_over_its_ends() {
        let region = region();
        assert!(Segment::of_region(&region, 4096, 0).is_some());
        assert!(Segment::of_region(&region, 4090, 7).is_none());
        assert!(Segment::of_region(&region, usize::MAX, 2).is_none());
        let segment = Segment::of_region(&region, 16, 12).expect("in the region");
        assert_eq!(segment.load_two_u64(0), None);
        let longer = Segment::of_region(&region, 16, 20).expect("in the region");
        assert_eq!(longer.load_two_u64(4), Some((0, 0)));
        assert_eq!(longer.load_two_u64(5), None);
        assert_eq!(longer.load_two_u64(usize::MAX), None);
        assert_eq!(segment.skip(13).len(), 0);
        assert_eq!(segment.copy_from(&[1; 20]), 12);
        segment.store_last(9);
        segment.skip(12).store_last(7);
        let mut around = [0; 16];
        let whole = Segment::of_region(&region, 14, 16).expect("in the region");
        assert_eq!(whole.copy_to(&mut around), 16);
        assert_eq!(around, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 0, 0]);
        segment.skip(1).zero();
        let mut head = [9; 3];
        segment.copy_to(&mut head);
        assert_eq!(head, [1, 0, 0]);
    }

    #[test]
    fn segments_that_overlap_are_copied_as_if_they_did_not() {
        let region = region();
        let all = Segment::of_region(&region, 0, 8).expect("in the region");
        all.copy_from(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(all.first(6).copy_to_segment(&all.skip(2)), 6);
        let mut bytes = [0; 8];
        all.copy_to(&mut bytes);
        assert_eq!(bytes, [1, 2, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn it_is_laid_out_as_an_iovec() {
        assert_eq!(size_of::<Segment<'_>>(), size_of::<libc::iovec>());
        assert_eq!(
            std::mem::offset_of!(Segment<'_>, bytes),
            std::mem::offset_of!(libc::iovec, iov_len)
        );
    }
}
