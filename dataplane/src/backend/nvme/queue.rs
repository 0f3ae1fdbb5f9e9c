//! One worker's own way into a namespace: requests become commands of a queue pair that is polled.
//!
//! A request is as many commands as the controller's limits make of it; those that find no room wait for a completion.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::NvmeError;
use super::bounce::{self, BouncePages, Copying, Page, Place};
use super::command::{Command, DEALLOCATE_RANGE_BYTES, Prps, deallocate_range};
use super::completion::Completion;
use super::controller::{Controller, DEAD};
use super::dma::{DmaMemory, PAGE_BYTES};
use super::driver_memory::DriverMemory;
use super::prp::{COMMAND_BYTES_MAX, PrpEntries};
use super::queue_pair::{QueuePair, pair_bytes, submission_bytes};
use super::request::Request;
use super::target::Target;
use crate::backend::verb::Verb;
use crate::backend::{BackendCounts, BackendQueue, Outcome, Submission, Token};
use crate::blk::{Operation, SECTOR_BYTES, SectorRange};
use crate::mem::RegionTable;
use ending::LOST;

mod ending;

/// Entries of a queue, if the controller allows so many.
const ENTRIES: u32 = 256;
/// Pages for data that the device cannot reach: 8 MiB.
const BOUNCE_PAGES: Page = 2048;
/// Passes without a completion after which it is seen whether the controller is still there.
const QUIET_PASSES: u32 = 1 << 16;

const _: () = assert!(COMMAND_BYTES_MAX <= BOUNCE_PAGES as u64 * PAGE_BYTES);

/// A queue of the nvme-vfio backend.
#[derive(Debug)]
pub struct NvmeQueue {
    controller: Arc<Controller>,
    target: Target,
    id: u16,
    epoch: u32,
    pair: QueuePair,
    driver: DriverMemory,
    entries: PrpEntries,
    bounce: BouncePages,
    slots: Box<[Slot]>,
    free_slots: Vec<u16>,
    requests: Box<[Request]>,
    free_requests: Vec<u16>,
    /// Requests of which commands are still to come, the first in front.
    waiting: VecDeque<u16>,
    /// Writes are durable when they complete.
    durable: bool,
    /// An Abort of one of its commands was not answered.
    is_owed_abort: bool,
    quiet_passes: u32,
    counts: BackendCounts,
    /// The queues, then a page for each slot, then the bounce pages.
    memory: DmaMemory,
}

/// A command that the device has, or room for one. Its number is the command's identifier.
#[derive(Debug)]
struct Slot {
    request: Option<u16>,
    /// Where its data begins, and how much that is.
    place: Place,
    bytes: u64,
    pages: Vec<Page>,
}

impl NvmeQueue {
    /// Opens a queue pair of `controller` to `target`.
    pub(super) fn open(controller: Arc<Controller>, target: Target) -> Result<Self, NvmeError> {
        let most = controller.capabilities().entries_max().min(ENTRIES);
        // A power of two, of which one entry stays empty.
        let entries = 1_u16 << most.max(2).ilog2();
        let slots = entries - 1;
        let slot_pages = u64::from(slots) * PAGE_BYTES;
        let bounce_start = pair_bytes(entries) + slot_pages;
        let bytes = bounce_start + u64::from(BOUNCE_PAGES) * PAGE_BYTES;
        let memory = DmaMemory::new(controller.space(), bytes).map_err(NvmeError::Memory)?;
        let (id, doorbells) = controller.reserve_queue()?;
        let pair = QueuePair::new(&memory, entries, doorbells).map_err(|_| NvmeError::Registers)?;
        let mut queue = Self {
            target,
            id,
            epoch: DEAD,
            pair,
            driver: DriverMemory::default(),
            entries: PrpEntries::default(),
            bounce: BouncePages::new(bounce_start, BOUNCE_PAGES),
            slots: (0..slots).map(|_| Slot::new()).collect(),
            free_slots: (0..slots).rev().collect(),
            requests: (0..slots).map(|_| Request::new()).collect(),
            free_requests: (0..slots).rev().collect(),
            waiting: VecDeque::with_capacity(usize::from(slots)),
            durable: false,
            is_owed_abort: false,
            quiet_passes: 0,
            counts: BackendCounts::default(),
            memory,
            controller,
        };
        queue.create()?;
        Ok(queue)
    }

    /// Makes the queue pair, empty, in the controller.
    fn create(&mut self) -> Result<(), NvmeError> {
        let entries = self.slots.len() as u16 + 1;
        let doorbells = self.controller.doorbells(self.id)?;
        let pair = QueuePair::new(&self.memory, entries, doorbells);
        self.pair = pair.map_err(|_| NvmeError::Registers)?;
        let completions = self.memory.address(submission_bytes(entries));
        let submissions = self.memory.address(0);
        let created = self
            .controller
            .create_queue(self.id, entries, submissions, completions);
        self.epoch = created?;
        Ok(())
    }

    fn issue_waiting(&mut self) {
        while let Some(first) = self.waiting.front().copied() {
            if !self.issue(first) {
                break;
            }
            self.waiting.pop_front();
        }
    }

    /// Gives the device commands of request `index`. Returns whether those were all.
    #[inline]
    fn issue(&mut self, index: u16) -> bool {
        while !self.requests[usize::from(index)].is_issued() {
            if !self.issue_command(index) {
                return false;
            }
        }
        true
    }

    /// Gives the device the next command of request `index`. Returns whether there was room.
    #[inline]
    fn issue_command(&mut self, index: u16) -> bool {
        let Some(id) = self.free_slots.last().copied() else {
            return false;
        };
        let request = &self.requests[usize::from(index)];
        let (command, step) = match request.verb {
            Verb::Read | Verb::Write => match self.data_command(index, id) {
                Some(command) => command,
                None => return false,
            },
            Verb::Flush => (Command::flush(self.target.nsid), 1),
            Verb::Discard => self.deallocation(index, id),
            Verb::WriteZeroes { unmap } => {
                let blocks = self.target.blocks(request.ranges[request.issued as usize]);
                let nsid = self.target.nsid;
                (Command::write_zeroes(nsid, blocks, unmap, self.durable), 1)
            }
        };
        self.free_slots.pop();
        self.pair.submit(&self.memory, id, &command);
        let request = &mut self.requests[usize::from(index)];
        request.issued += step;
        request.commands += 1;
        self.slots[usize::from(id)].request = Some(index);
        true
    }

    /// Returns the next read or write of request `index`, in slot `id`, and how many bytes it has; `None` when there is no room
    /// for its data.
    #[inline]
    fn data_command(&mut self, index: u16, id: u16) -> Option<(Command, u64)> {
        let request = &mut self.requests[usize::from(index)];
        let slot = &mut self.slots[usize::from(id)];
        let left = request.range.bytes() - request.issued;
        let bytes = left.min(self.target.limits.data_bytes_max.min(COMMAND_BYTES_MAX));
        slot.place = request.place;
        slot.bytes = bytes;
        self.entries.clear();
        let mut rest = bytes;
        if request.is_direct {
            while rest > 0 {
                let piece = request.place.next(&request.segments, rest)?;
                let address = self.driver.address(&piece)?;
                self.entries.add(address, piece.len() as u64);
                rest -= piece.len() as u64;
            }
            self.counts.registered += 1;
        } else {
            if !self.bounce.take(bytes, &mut slot.pages) {
                return None;
            }
            for page in &slot.pages {
                let address = self.memory.address(self.bounce.offset(*page));
                self.entries.add(address, rest.min(PAGE_BYTES));
                rest -= rest.min(PAGE_BYTES);
            }
            if request.verb == Verb::Write {
                slot.copy(&self.memory, &self.bounce, request, Copying::ToPages);
            }
            request.place.skip(&request.segments, bytes);
            self.counts.copied += 1;
        }
        let prps = self.list_of(id);
        let request = &self.requests[usize::from(index)];
        let blocks = self.target.blocks(SectorRange {
            first: request.range.first + request.issued / SECTOR_BYTES,
            count: bytes / SECTOR_BYTES,
        });
        let nsid = self.target.nsid;
        let command = match request.verb {
            Verb::Read => Command::read(nsid, blocks, prps),
            _ => Command::write(nsid, blocks, prps, self.durable),
        };
        Some((command, bytes))
    }

    /// Returns the PRP entries of the command in slot `id`, whose page takes the list.
    #[inline]
    fn list_of(&self, id: u16) -> Prps {
        let at = self.page_of(id);
        let page = self.memory.segment(at, PAGE_BYTES);
        page.map_or(Prps::default(), |page| {
            self.entries.prps(&page, self.memory.address(at))
        })
    }

    /// Returns where the page of slot `id` is in the queue's memory.
    #[inline]
    fn page_of(&self, id: u16) -> u64 {
        pair_bytes(self.slots.len() as u16 + 1) + u64::from(id) * PAGE_BYTES
    }

    /// Returns the next deallocation of request `index`, and how many ranges it has, which are in the page of slot `id`.
    fn deallocation(&mut self, index: u16, id: u16) -> (Command, u64) {
        let request = &self.requests[usize::from(index)];
        let ranges = &request.ranges[request.issued as usize..];
        let count = ranges.len().min(self.target.limits.ranges_max);
        let at = self.page_of(id);
        for (range, number) in ranges.iter().take(count).zip(0..) {
            let offset = at + number * DEALLOCATE_RANGE_BYTES as u64;
            if let Ok(entry) = self.memory.segment(offset, DEALLOCATE_RANGE_BYTES as u64) {
                let blocks = self.target.blocks(*range);
                entry.copy_from(&deallocate_range(blocks.first, blocks.count));
            }
        }
        let page = self.memory.address(at);
        let command = Command::deallocate(self.target.nsid, count as u16, page);
        (command, count as u64)
    }

    /// Notes that a command is over. Returns the request that is over with it.
    #[inline]
    fn finish(&mut self, completion: Completion) -> Option<(Token, Outcome)> {
        let slot = self.slots.get_mut(usize::from(completion.id))?;
        let index = slot.request.take()?;
        let request = &mut self.requests[usize::from(index)];
        let outcome = completion.status.outcome();
        if outcome != Outcome::Done {
            request.failure.get_or_insert(outcome);
        } else if request.verb == Verb::Read && !request.is_direct {
            slot.copy(&self.memory, &self.bounce, request, Copying::ToDriver);
        }
        self.bounce.give_back(&mut slot.pages);
        self.free_slots.push(completion.id);
        request.commands -= 1;
        let outcome = request.outcome()?;
        if outcome != Outcome::Done {
            self.waiting.retain(|waiting| *waiting != index);
        }
        Some((self.end_request(index)?, outcome))
    }

    fn end_request(&mut self, index: u16) -> Option<Token> {
        let request = &mut self.requests[usize::from(index)];
        let token = request.token;
        request.end();
        self.free_requests.push(index);
        token
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            request: None,
            place: Place::default(),
            bytes: 0,
            pages: Vec::with_capacity((COMMAND_BYTES_MAX / PAGE_BYTES) as usize),
        }
    }

    fn copy(&self, memory: &DmaMemory, bounce: &BouncePages, request: &Request, way: Copying) {
        let (pages, segments) = (&self.pages, &request.segments);
        bounce::copy(memory, bounce, pages, segments, self.place, self.bytes, way);
    }
}

impl BackendQueue for NvmeQueue {
    fn set_memory(&mut self, memory: &RegionTable) {
        self.driver = DriverMemory::new(self.controller.space(), memory);
    }

    fn set_write_through(&mut self, write_through: bool) {
        self.durable = write_through && self.target.volatile_cache;
    }

    #[inline]
    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        if self.epoch == DEAD {
            return Submission::Complete(LOST);
        }
        let Some(index) = self.free_requests.pop() else {
            return Submission::Busy;
        };
        let request = &mut self.requests[usize::from(index)];
        if !request.begin(token, &operation) {
            self.free_requests.push(index);
            return Submission::Complete(Outcome::Unsupported);
        }
        if request.is_issued() {
            // It asks for nothing.
            self.end_request(index);
            return Submission::Complete(Outcome::Done);
        }
        request.is_direct = self.driver.is_reachable(&request.segments);
        if !self.waiting.is_empty() || !self.issue(index) {
            self.waiting.push_back(index);
        }
        Submission::Pending
    }

    #[inline]
    fn commit(&mut self) {
        self.pair.ring();
    }

    #[inline]
    fn complete(&mut self) -> Option<(Token, Outcome)> {
        if self.epoch == DEAD {
            return self.fail_one();
        }
        if self.epoch != self.controller.epoch() {
            self.recover();
            return None;
        }
        while let Some(completion) = self.pair.complete() {
            self.quiet_passes = 0;
            if let Some(done) = self.finish(completion) {
                return Some(done);
            }
        }
        if !self.waiting.is_empty() {
            self.issue_waiting();
        }
        self.pair.ring();
        self.quiet_passes += 1;
        if self.quiet_passes == QUIET_PASSES {
            self.quiet_passes = 0;
            self.controller.look_after(self.epoch);
        }
        None
    }

    fn in_flight(&self) -> usize {
        self.requests.len() - self.free_requests.len()
    }

    fn counts(&self) -> BackendCounts {
        self.counts
    }

    fn abort(&mut self) -> Duration {
        self.abort_commands()
    }

    fn abandon(&mut self) {
        self.give_up();
    }
}

impl Drop for NvmeQueue {
    fn drop(&mut self) {
        self.controller.delete_queue(self.id, self.epoch);
        self.controller.release_queue(self.id);
    }
}
