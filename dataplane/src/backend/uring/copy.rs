//! Memory of the queue for data that direct I/O cannot use where the driver has it.
//!
//! # Safety
//!
//! A buffer's segment is valid as long as the buffers are, which the queue keeps until nothing is pending.

#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

use vm_memory::MmapRegion;

use crate::mem::{Segment, leave_out_of_core_dumps};

/// Bytes of one buffer: what a request moves at a time then. A multiple of every block size.
pub(super) const BUFFER_BYTES: usize = 128 << 10;

/// Requests that may have one at the same time; with more the queue is busy.
const BUFFERS: usize = 16;

/// Buffers, aligned to a page, each for one request at a time.
#[derive(Debug)]
pub(super) struct Buffers {
    memory: MmapRegion,
    free: Vec<usize>,
}

/// A buffer that a request has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Buffer(usize);

impl Buffers {
    /// Returns all of them, free.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(super) fn new() -> io::Result<Self> {
        let memory = MmapRegion::new(BUFFERS * BUFFER_BYTES).map_err(io::Error::other)?;
        leave_out_of_core_dumps(&memory);
        if let Some(all) = Segment::of_region(&memory, 0, memory.size()) {
            // So that its pages exist.
            all.zero();
        }
        let free = (0..BUFFERS).collect();
        Ok(Self { memory, free })
    }

    /// Returns a buffer, if one is free.
    pub(super) fn take(&mut self) -> Option<Buffer> {
        self.free.pop().map(Buffer)
    }

    /// Takes `buffer` back.
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        self.free.push(buffer.0);
    }

    /// Returns the first `bytes` bytes of `buffer`.
    pub(super) fn segment(&self, buffer: &Buffer, bytes: usize) -> Segment<'static> {
        let start = self.memory.as_ptr().wrapping_add(buffer.0 * BUFFER_BYTES);
        let start = NonNull::new(start).unwrap_or(NonNull::dangling());
        // SAFETY: a buffer is one of those that `memory` was made for, `memory` is mapped as long as `self` is, and the
        // queue drops `self` only when nothing is pending.
        unsafe { Segment::new(start, bytes.min(BUFFER_BYTES)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::is_dumped;

    #[test]
    fn buffers_are_apart_aligned_and_come_back() {
        let mut buffers = Buffers::new().unwrap();
        assert!(!is_dumped(buffers.memory.as_ptr() as usize));
        let taken: Vec<_> = std::iter::from_fn(|| buffers.take()).collect();
        assert_eq!(taken.len(), BUFFERS);
        for (value, buffer) in (0..).zip(&taken) {
            let segment = buffers.segment(buffer, usize::MAX);
            assert_eq!(segment.len(), BUFFER_BYTES);
            assert_eq!(segment.as_ptr() as usize % 4096, 0);
            segment.copy_from(&[value; 16]);
            segment.store_last(value);
        }
        for (value, buffer) in (0..).zip(&taken) {
            let mut bytes = [0xff; BUFFER_BYTES];
            buffers.segment(buffer, BUFFER_BYTES).copy_to(&mut bytes);
            assert_eq!((bytes[0], bytes[BUFFER_BYTES - 1]), (value, value));
        }
        buffers.give_back(taken.into_iter().next().unwrap());
        assert!(buffers.take().is_some() && buffers.take().is_none());
    }
}
