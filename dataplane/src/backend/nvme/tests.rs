//! Requests through a queue to a controller in memory.

use std::sync::Arc;

use nix::errno::Errno;

use super::dma::AddressSpace;
use super::model::{AbortAnswer, Model};
use super::registers::Registers;
use super::{Controller, Nvme, NvmeOptions, NvmeQueue};
use crate::backend::{Backend, BackendQueue, DiskError, Outcome, Submission, Token};
use crate::blk::{Operation, SectorRange};
use crate::mem::testing::region;
use crate::mem::{Direction, Iova, RegionTable, Segment};

mod abort;
mod ending;
mod events;
mod limits;
mod transfer;

/// Bytes of the driver's memory.
const MEMORY_BYTES: u64 = 4 << 20;

/// A namespace of a model, and memory of a driver's.
struct Rig {
    model: Model,
    nvme: Nvme,
    memory: RegionTable,
}

fn options() -> NvmeOptions {
    NvmeOptions {
        pci: String::new(),
        nsid: 1,
        read_only: false,
        serial: String::new(),
        force_unbind: false,
    }
}

fn open(model: &Model, options: &NvmeOptions) -> Result<Nvme, DiskError> {
    let registers = Registers::new(model.bar()).expect("registers");
    let space = Arc::new(AddressSpace::new(Box::new(model.clone())));
    Nvme::over(Controller::new(registers, space)?, options)
}

impl Rig {
    fn new() -> Self {
        Self::over(Model::new())
    }

    fn over(model: Model) -> Self {
        Self {
            nvme: open(&model, &options()).expect("a namespace"),
            model,
            memory: RegionTable::new(vec![region(0, MEMORY_BYTES)]).expect("memory"),
        }
    }

    /// Returns a queue whose controller reaches the driver's memory.
    fn queue(&self) -> NvmeQueue {
        let mut queue = self.nvme.open_queue().expect("a queue");
        queue.set_memory(&self.memory);
        queue
    }

    fn segment(&self, start: u64, bytes: u64) -> Segment<'_> {
        let segment = self.memory.segment(Iova(start), bytes, Direction::Writable);
        segment.expect("in the memory")
    }

    /// Fills the driver's memory from `start` on.
    fn fill(&self, start: u64, bytes: &[u8]) {
        self.segment(start, bytes.len() as u64).copy_from(bytes);
    }

    fn bytes(&self, start: u64, bytes: usize) -> Vec<u8> {
        let mut copied = vec![0; bytes];
        self.segment(start, bytes as u64).copy_to(&mut copied);
        copied
    }

    fn on_disk(&self, range: SectorRange) -> Vec<u8> {
        let start = range.start_bytes() as usize;
        self.model.state().disk[start..start + range.bytes() as usize].to_vec()
    }

    /// Steps the controller until `queue` has nothing in flight. Returns what was completed.
    fn settle(&self, queue: &mut NvmeQueue) -> Vec<(Token, Outcome)> {
        let mut completed = Vec::new();
        for _ in 0..10_000 {
            queue.commit();
            self.model.step();
            completed.extend(std::iter::from_fn(|| queue.complete()));
            if queue.in_flight() == 0 {
                return completed;
            }
        }
        panic!("in flight for ever: {queue:?}");
    }

    /// Carries one operation out.
    fn run(&self, queue: &mut NvmeQueue, operation: Operation<'_, '_>) -> Outcome {
        assert_eq!(queue.submit(7, operation), Submission::Pending);
        let completed = self.settle(queue);
        let [(7, outcome)] = completed[..] else {
            panic!("{completed:?}");
        };
        outcome
    }
}

fn sectors(first: u64, bytes: u64) -> SectorRange {
    SectorRange {
        first,
        count: bytes / 512,
    }
}

fn failed(errno: Errno) -> Outcome {
    Outcome::Failed {
        errno: errno as i32,
    }
}

/// Returns `bytes` bytes that are like no others.
fn pattern(seed: u64, bytes: u64) -> Vec<u8> {
    let byte = |index: u64| ((index + seed * 7919).wrapping_mul(0x9e37_79b9) >> 13) as u8;
    (0..bytes).map(byte).collect()
}
