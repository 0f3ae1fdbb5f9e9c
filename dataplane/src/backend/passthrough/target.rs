//! Commands of a namespace through io_uring.

use io_uring::{cqueue, opcode, squeue};

use super::command::{COMMAND_BYTES, bytes, data};
use crate::backend::Outcome;
use crate::backend::nvme::command::{Blocks, Command, Prps, deallocate_range};
use crate::backend::nvme::status::Status;
use crate::backend::uring::{Ended, FILE, Limits, Part, Progress, Request, Target};
use crate::backend::verb::Verb;

/// `NVME_URING_CMD_IO` and `NVME_URING_CMD_IO_VEC` (include/uapi/linux/nvme_ioctl.h).
const COMMAND: u32 = nix::request_code_readwrite!(b'N', 0x80, 72) as u32;
const VECTORED_COMMAND: u32 = nix::request_code_readwrite!(b'N', 0x81, 72) as u32;

/// A namespace, as a worker's queue knows it.
#[derive(Debug)]
pub struct Namespace {
    pub(super) nsid: u32,
    pub(super) block_bytes: u64,
    pub(super) limits: Limits,
    pub(super) has_volatile_cache: bool,
}

impl Namespace {
    fn blocks(&self, request: &Request) -> Blocks {
        Blocks {
            first: request.offset / self.block_bytes,
            // What was asked is within the limits, and not empty.
            count: (request.asked / self.block_bytes).max(1) as u32,
        }
    }
}

impl Target for Namespace {
    type Submission = squeue::Entry128;
    type Completion = cqueue::Entry32;

    fn limits(&self) -> Limits {
        self.limits
    }

    fn entry(&self, request: &mut Request, part: Part, durable: bool) -> squeue::Entry128 {
        let (nsid, blocks) = (self.nsid, self.blocks(request));
        let durable = durable && self.has_volatile_cache;
        let nowhere = Prps::default();
        let command = match request.verb {
            Verb::Read => Command::read(nsid, blocks, nowhere),
            Verb::Write => Command::write(nsid, blocks, nowhere, durable),
            Verb::Flush => Command::flush(nsid),
            Verb::WriteZeroes { unmap } => Command::write_zeroes(nsid, blocks, unmap, durable),
            Verb::Discard => {
                request.note = deallocate_range(blocks.first, blocks.count);
                let note = (request.note.as_ptr() as u64, request.note.len() as u32);
                Command::deallocate(nsid, 1, 0).with_data(data(note.0, note.1))
            }
        };
        let (command, operation, registered) = match part {
            Part::None => (command, COMMAND, None),
            Part::One {
                start,
                bytes,
                registered,
            } => (
                command.with_data(data(start as u64, bytes)),
                COMMAND,
                registered,
            ),
            Part::Many { vectors, count } => (
                command.with_data(data(vectors as u64, count)),
                VECTORED_COMMAND,
                None,
            ),
        };
        let mut entry = [0; 80];
        entry[..COMMAND_BYTES].copy_from_slice(&bytes(&command));
        let entry = opcode::UringCmd80::new(FILE, operation).cmd(entry);
        entry.buf_index(registered).build()
    }

    fn ended(&self, request: &mut Request, result: i32) -> Ended {
        match result {
            0 => Ended::Did(request.asked),
            ..0 => Ended::Otherwise(request.failed(-result)),
            status => Ended::Otherwise(match Status(status as u16).outcome() {
                Outcome::Done => Progress::Failed(libc::EIO),
                Outcome::Unsupported => Progress::Unsupported,
                Outcome::Failed { errno } => Progress::Failed(errno),
            }),
        }
    }
}
