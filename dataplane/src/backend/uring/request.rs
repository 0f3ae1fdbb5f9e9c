//! One request on its way: what is left of it, and the part that is next.

use io_uring::{cqueue, squeue};

use super::copy::{Buffer, Buffers};
use super::pieces::Pieces;
use super::ring::Ring;
use crate::backend::verb::Verb;
use crate::blk::SectorRange;
use crate::mem::Segment;

/// How often a part is tried again that the kernel had no room for, or that a signal interrupted.
const TRIES_MAX: u32 = 1 << 20;

/// A pending request.
#[derive(Debug)]
pub(in crate::backend) struct Request {
    pub(in crate::backend) verb: Verb,
    /// Where the rest begins.
    pub(in crate::backend) offset: u64,
    /// How many bytes are left; of the first range where there are several.
    pub(in crate::backend) left: u64,
    /// How many of them the last entry was to do.
    pub(in crate::backend) asked: u64,
    /// What is left of the data.
    pub(super) pieces: Option<Pieces>,
    /// Where the data is copied to or from.
    pub(super) buffer: Option<Buffer>,
    /// The ranges after the first, the last one first.
    pub(super) ranges: Option<Vec<SectorRange>>,
    /// What the storage has to be told besides, as long as the request is pending.
    pub(in crate::backend) note: [u8; 16],
    tries: u32,
}

/// What bounds an entry, and what its data must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Limits {
    /// Where a buffer may begin: at a multiple of this.
    pub(in crate::backend) align_bytes: usize,
    /// What the length of a buffer and a place in the storage are multiples of.
    pub(in crate::backend) block_bytes: usize,
    /// Data bytes of an entry: whole blocks.
    pub(in crate::backend) part_bytes_max: u64,
    /// Buffers of an entry.
    pub(in crate::backend) part_pieces_max: usize,
}

/// The data of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Part {
    None,
    One {
        start: *mut u8,
        bytes: u32,
        /// The number under which it is registered.
        registered: Option<u16>,
    },
    Many {
        /// As many as `count`.
        vectors: *const libc::iovec,
        count: u32,
    },
}

/// What a completion means for its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Progress {
    /// It takes another entry.
    More,
    Done,
    Unsupported,
    Failed(i32),
}

impl Request {
    pub(super) fn new(verb: Verb, offset: u64, left: u64) -> Self {
        Self {
            verb,
            offset,
            left,
            asked: 0,
            pieces: None,
            buffer: None,
            ranges: None,
            note: [0; 16],
            tries: 0,
        }
    }

    /// Returns the data of the next entry, within `limits`; copied, if it has to be, where it is written from.
    pub(super) fn part<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
        &mut self,
        ring: &Ring<S, C>,
        buffers: &Buffers,
        limits: &Limits,
    ) -> Part {
        self.asked = self.left.min(limits.part_bytes_max);
        let Some(pieces) = &self.pieces else {
            return Part::None;
        };
        let bytes = self.asked as usize;
        let one = match &self.buffer {
            Some(buffer) => {
                let copy = buffers.segment(buffer, bytes);
                if self.verb == Verb::Write {
                    pieces.copy_to(copy);
                }
                copy
            }
            None => {
                let mut sum = 0;
                let fits = |piece: &&Segment<'_>| {
                    sum += piece.len();
                    sum <= bytes
                };
                let left = pieces.left();
                let most = left.iter().take(limits.part_pieces_max);
                match (&left[..most.take_while(fits).count()], left) {
                    (vectors @ [_, _, ..], _) => {
                        self.asked = vectors.iter().map(|it| it.len() as u64).sum();
                        return Part::Many {
                            // A segment is laid out as an iovec.
                            vectors: vectors.as_ptr().cast(),
                            count: vectors.len() as u32,
                        };
                    }
                    // One that is as long, or longer.
                    (_, [piece, ..]) => piece.first(bytes),
                    (_, []) => return Part::None,
                }
            }
        };
        self.asked = one.len() as u64;
        Part::One {
            start: one.as_ptr(),
            bytes: one.len() as u32,
            registered: ring.registered(&one),
        }
    }

    /// Notes that `bytes` bytes of the data were moved.
    pub(super) fn moved(&mut self, bytes: u64, buffers: &Buffers) -> Progress {
        let Some(pieces) = &mut self.pieces else {
            return Progress::Failed(libc::EIO);
        };
        if let (Some(buffer), Verb::Read) = (&self.buffer, self.verb) {
            pieces.copy_from(buffers.segment(buffer, bytes as usize));
        }
        pieces.advance(bytes as usize);
        self.did(bytes)
    }

    /// Notes that `bytes` bytes of this range are done.
    pub(super) fn did(&mut self, bytes: u64) -> Progress {
        self.offset += bytes;
        self.left = self.left.saturating_sub(bytes);
        self.tries = 0;
        if self.left > 0 {
            return Progress::More;
        }
        match self.ranges.as_mut().and_then(Vec::pop) {
            None => Progress::Done,
            Some(range) => {
                (self.offset, self.left) = (range.start_bytes(), range.bytes());
                Progress::More
            }
        }
    }

    /// Returns what `errno`, with which an entry ended, means: some pass.
    pub(in crate::backend) fn failed(&mut self, errno: i32) -> Progress {
        if matches!(errno, libc::EINTR | libc::EAGAIN) && self.tries < TRIES_MAX {
            self.tries += 1;
            return Progress::More;
        }
        match errno {
            libc::EOPNOTSUPP => Progress::Unsupported,
            errno => Progress::Failed(errno),
        }
    }
}
