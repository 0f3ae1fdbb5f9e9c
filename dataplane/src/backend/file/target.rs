//! Entries for files and block devices.

use io_uring::types::FsyncFlags;
use io_uring::{cqueue, opcode, squeue};
use nix::errno::Errno;

use super::erase;
use super::storage::Storage;
use crate::backend::Outcome;
use crate::backend::uring::{Ended, FILE, Limits, Part, Progress, Request, Target};
use crate::backend::verb::Verb;
use crate::blk::SectorRange;

/// The kernel takes no more buffers in one call (UIO_MAXIOV).
const PART_PIECES_MAX: usize = 1024;

/// The kernel moves no more in one call, a page less than 2 GiB.
const PART_BYTES_MAX: u64 = 1 << 30;

/// `BLOCK_URING_CMD_DISCARD` (include/uapi/linux/blkdev.h, Linux 6.12).
const BLOCK_DISCARD: u32 = 0x12 << 8;

impl Target for Storage {
    type Submission = squeue::Entry;
    type Completion = cqueue::Entry;

    fn limits(&self) -> Limits {
        Limits {
            align_bytes: self.align_bytes,
            block_bytes: self.block_bytes,
            part_bytes_max: PART_BYTES_MAX,
            part_pieces_max: PART_PIECES_MAX,
        }
    }

    fn entry(&self, request: &mut Request, part: Part, durable: bool) -> squeue::Entry {
        let (offset, bytes) = (request.offset, request.asked);
        let allocate = |mode: i32| {
            let allocate = opcode::Fallocate::new(FILE, bytes).offset(offset);
            allocate.mode(mode | libc::FALLOC_FL_KEEP_SIZE).build()
        };
        match request.verb {
            Verb::Read => read(offset, part),
            Verb::Write => write(offset, part, if durable { libc::RWF_DSYNC } else { 0 }),
            Verb::Flush => opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(),
            Verb::Discard if self.is_block => {
                // The length goes where the command's own bytes are.
                let mut command = [0; 16];
                command[..8].copy_from_slice(&bytes.to_ne_bytes());
                let discard = opcode::UringCmd16::new(FILE, BLOCK_DISCARD).cmd(command);
                discard.addr(Some(offset)).build()
            }
            Verb::Discard | Verb::WriteZeroes { unmap: true } => {
                allocate(libc::FALLOC_FL_PUNCH_HOLE)
            }
            Verb::WriteZeroes { unmap: false } => allocate(libc::FALLOC_FL_ZERO_RANGE),
        }
    }

    fn secure_erase(&self, ranges: &[SectorRange]) -> Outcome {
        // The kernel lets nobody erase what another file holds. No other thread is there to be waited for.
        let erased = self.claim.through(&self.file, |file| {
            ranges
                .iter()
                .try_for_each(|range| erase::secure_erase(file, *range))
        });
        match erased {
            Ok(()) => Outcome::Done,
            Err(Errno::EOPNOTSUPP) => Outcome::Unsupported,
            Err(errno) => Outcome::Failed {
                errno: errno as i32,
            },
        }
    }

    fn ended(&self, request: &mut Request, result: i32) -> Ended {
        match (result, request.verb) {
            (errno, Verb::WriteZeroes { unmap: true }) if errno == -libc::EOPNOTSUPP => {
                // It need not be deallocated.
                request.verb = Verb::WriteZeroes { unmap: false };
                Ended::Otherwise(Progress::More)
            }
            (..0, _) => Ended::Otherwise(request.failed(-result)),
            // The storage ends before the disk does: it was made shorter behind our back.
            (0, Verb::Read | Verb::Write) => Ended::Otherwise(Progress::Failed(libc::EIO)),
            (bytes, Verb::Read | Verb::Write) => Ended::Did(bytes as u64),
            _ => Ended::Did(request.asked),
        }
    }
}

fn read(offset: u64, part: Part) -> squeue::Entry {
    match part {
        Part::None => opcode::Nop::new().build(),
        Part::One {
            start,
            bytes,
            registered: Some(index),
        } => opcode::ReadFixed::new(FILE, start, bytes, index)
            .offset(offset)
            .build(),
        Part::One { start, bytes, .. } => {
            opcode::Read::new(FILE, start, bytes).offset(offset).build()
        }
        Part::Many { vectors, count } => opcode::Readv::new(FILE, vectors, count)
            .offset(offset)
            .build(),
    }
}

fn write(offset: u64, part: Part, flags: i32) -> squeue::Entry {
    match part {
        Part::None => opcode::Nop::new().build(),
        Part::One {
            start,
            bytes,
            registered: Some(index),
        } => opcode::WriteFixed::new(FILE, start, bytes, index)
            .offset(offset)
            .rw_flags(flags)
            .build(),
        Part::One { start, bytes, .. } => opcode::Write::new(FILE, start, bytes)
            .offset(offset)
            .rw_flags(flags)
            .build(),
        Part::Many { vectors, count } => opcode::Writev::new(FILE, vectors, count)
            .offset(offset)
            .rw_flags(flags)
            .build(),
    }
}
