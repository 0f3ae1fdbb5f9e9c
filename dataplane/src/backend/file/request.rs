//! One request on its way: what is left of it, and the next entry that does a part.

use io_uring::types::FsyncFlags;
use io_uring::{opcode, squeue};

use super::copy::{BUFFER_BYTES, Buffer, Buffers};
use super::pieces::Pieces;
use super::ring::{self, FILE, Ring};
use crate::blk::SectorRange;
use crate::mem::Segment;

/// The kernel takes no more buffers in one call (UIO_MAXIOV).
const BUFFERS_MAX: usize = 1024;

/// How often a part is tried again that the kernel had no room for, or that a signal interrupted.
const TRIES_MAX: u32 = 1 << 20;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes { unmap: bool },
}

/// A pending request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) verb: Verb,
    /// Where the rest begins.
    pub(super) offset: u64,
    /// How many bytes are left; of the first range where there are several.
    pub(super) left: u64,
    /// What is left of the data.
    pub(super) pieces: Option<Pieces>,
    /// Where the data is copied to or from.
    pub(super) buffer: Option<Buffer>,
    /// The ranges after the first, the last one first.
    pub(super) ranges: Option<Vec<SectorRange>>,
    pub(super) tries: u32,
}

/// What a completion means for its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It takes another entry.
    More,
    Done,
    Failed(i32),
}

impl Request {
    pub(super) fn new(verb: Verb, offset: u64, left: u64) -> Self {
        Self {
            verb,
            offset,
            left,
            pieces: None,
            buffer: None,
            ranges: None,
            tries: 0,
        }
    }

    /// Returns the bytes that the next entry is to move.
    fn next_bytes(&self) -> usize {
        match &self.buffer {
            Some(_) => self.left.min(BUFFER_BYTES as u64) as usize,
            None => self.left as usize,
        }
    }

    /// Returns the entry for what is next, and whether its data is in memory that `ring` has registered.
    pub(super) fn entry(
        &self,
        ring: &Ring,
        buffers: &Buffers,
        is_block: bool,
        write_flags: i32,
    ) -> (squeue::Entry, bool) {
        let Self { offset, left, .. } = *self;
        match self.verb {
            Verb::Read | Verb::Write => self.data_entry(ring, buffers, write_flags),
            Verb::Flush => {
                let flush = opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC);
                (flush.build(), false)
            }
            Verb::Discard if is_block => (ring::discard(offset, left), false),
            Verb::Discard | Verb::WriteZeroes { unmap: true } => {
                (self.allocate(libc::FALLOC_FL_PUNCH_HOLE), false)
            }
            Verb::WriteZeroes { unmap: false } => {
                (self.allocate(libc::FALLOC_FL_ZERO_RANGE), false)
            }
        }
    }

    fn allocate(&self, mode: i32) -> squeue::Entry {
        let allocate = opcode::Fallocate::new(FILE, self.left).offset(self.offset);
        allocate.mode(mode | libc::FALLOC_FL_KEEP_SIZE).build()
    }

    fn data_entry(
        &self,
        ring: &Ring,
        buffers: &Buffers,
        write_flags: i32,
    ) -> (squeue::Entry, bool) {
        let (offset, is_read) = (self.offset, self.verb == Verb::Read);
        let bytes = self.next_bytes();
        let copy = self.buffer.as_ref().map(|it| buffers.segment(it, bytes));
        if let (Some(copy), Some(pieces), false) = (&copy, &self.pieces, is_read) {
            pieces.copy_to(*copy);
        }
        let pieces = self.pieces.as_ref().map_or(&[][..], Pieces::left);
        let pieces = copy.as_ref().map_or(pieces, std::slice::from_ref);
        let one = |segment: &Segment<'_>| (segment.as_ptr(), segment.len() as u32);
        match pieces {
            [piece] => {
                let ((start, bytes), index) = (one(piece), ring.registered(piece));
                let entry = match (index, is_read) {
                    (Some(index), true) => opcode::ReadFixed::new(FILE, start, bytes, index)
                        .offset(offset)
                        .build(),
                    (Some(index), false) => opcode::WriteFixed::new(FILE, start, bytes, index)
                        .offset(offset)
                        .rw_flags(write_flags)
                        .build(),
                    (None, true) => opcode::Read::new(FILE, start, bytes).offset(offset).build(),
                    (None, false) => opcode::Write::new(FILE, start, bytes)
                        .offset(offset)
                        .rw_flags(write_flags)
                        .build(),
                };
                (entry, index.is_some())
            }
            pieces => {
                // A segment is laid out as an iovec.
                let (vectors, count) =
                    (pieces.as_ptr().cast(), pieces.len().min(BUFFERS_MAX) as u32);
                let entry = match is_read {
                    true => opcode::Readv::new(FILE, vectors, count)
                        .offset(offset)
                        .build(),
                    false => opcode::Writev::new(FILE, vectors, count)
                        .offset(offset)
                        .rw_flags(write_flags)
                        .build(),
                };
                (entry, false)
            }
        }
    }

    /// Takes the result of the last entry.
    pub(super) fn take(&mut self, result: i32, buffers: &Buffers) -> Progress {
        if result < 0 {
            return self.take_error(-result);
        }
        match self.verb {
            Verb::Read | Verb::Write => self.take_bytes(result as usize, buffers),
            Verb::Flush => Progress::Done,
            Verb::Discard | Verb::WriteZeroes { .. } => {
                let Some(range) = self.ranges.as_mut().and_then(Vec::pop) else {
                    return Progress::Done;
                };
                (self.offset, self.left) = (range.start_bytes(), range.bytes());
                Progress::More
            }
        }
    }

    fn take_bytes(&mut self, bytes: usize, buffers: &Buffers) -> Progress {
        if bytes == 0 {
            // The storage ends before the disk does: it was made shorter behind our back.
            return Progress::Failed(libc::EIO);
        }
        let Some(pieces) = &mut self.pieces else {
            return Progress::Failed(libc::EIO);
        };
        if let (Some(buffer), Verb::Read) = (&self.buffer, self.verb) {
            pieces.copy_from(buffers.segment(buffer, bytes));
        }
        pieces.advance(bytes);
        self.offset += bytes as u64;
        self.left = self.left.saturating_sub(bytes as u64);
        self.tries = 0;
        match self.left {
            0 => Progress::Done,
            _ => Progress::More,
        }
    }

    fn take_error(&mut self, errno: i32) -> Progress {
        let passing = matches!(errno, libc::EINTR | libc::EAGAIN);
        if passing && self.tries < TRIES_MAX {
            self.tries += 1;
            return Progress::More;
        }
        if errno == libc::EOPNOTSUPP && self.verb == (Verb::WriteZeroes { unmap: true }) {
            // It need not be deallocated.
            self.verb = Verb::WriteZeroes { unmap: false };
            return Progress::More;
        }
        Progress::Failed(errno)
    }
}
