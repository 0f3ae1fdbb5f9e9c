//! The admin queue: one command at a time, waited for; of Aborts as many as the controller takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NvmeError;
use super::command::Command;
use super::completion::Completion;
use super::dma::{AddressSpace, DmaMemory, PAGE_BYTES};
use super::event::NvmeEvent;
use super::identify::IDENTIFY_BYTES;
use super::queue_pair::{QueuePair, pair_bytes, submission_bytes};
use super::registers::Registers;
use super::status::Status;

const ENTRIES: u16 = 32;

/// Time that a command may take before the controller is taken for hung.
pub(super) const COMMAND_TIME: Duration = Duration::from_secs(5);
/// The same where a worker waits for it, whose own answer is waited for.
pub(super) const QUICK_COMMAND_TIME: Duration = Duration::from_millis(500);

/// Set in the identifiers of Aborts, and in no others.
const ABORT: u16 = 1 << 15;
/// The identifier of the request to be told of an event.
const EVENT: u16 = 1 << 14;

/// The notice of namespaces that have changed.
const NAMESPACES_CHANGED: u32 = 1 << 8;
/// Bytes of a log that are read: the longest of those that events are in.
const LOG_BYTES: u32 = 4096;

/// The admin queue pair of one controller.
#[derive(Debug)]
pub(super) struct AdminQueue {
    pair: QueuePair,
    memory: DmaMemory,
    space: Arc<AddressSpace>,
    /// Of the last command.
    id: u16,
    /// Aborts that the controller has.
    aborts: u16,
    /// Most that it takes.
    aborts_max: u16,
    /// What the controller told of, and was not asked for yet.
    event: Option<NvmeEvent>,
}

impl AdminQueue {
    /// Tells a controller that is disabled where its admin queue is.
    pub(super) fn new(registers: &Registers, space: &Arc<AddressSpace>) -> Result<Self, NvmeError> {
        let bytes = pair_bytes(ENTRIES) + PAGE_BYTES;
        let memory = DmaMemory::new(space, bytes).map_err(NvmeError::Memory)?;
        let pair = Self::begin(registers, &memory)?;
        Ok(Self {
            pair,
            memory,
            space: Arc::clone(space),
            id: 0,
            aborts: 0,
            aborts_max: 1,
            event: None,
        })
    }

    /// Begins anew, with a controller that is disabled again.
    pub(super) fn restart(&mut self, registers: &Registers) -> Result<(), NvmeError> {
        self.pair = Self::begin(registers, &self.memory)?;
        self.aborts = 0;
        self.event = None;
        Ok(())
    }

    fn begin(registers: &Registers, memory: &DmaMemory) -> Result<QueuePair, NvmeError> {
        let completions = memory.address(submission_bytes(ENTRIES));
        registers
            .set_admin_queues(ENTRIES, memory.address(0), completions)
            .map_err(|_| NvmeError::Registers)?;
        let doorbells = registers.doorbells(0).map_err(|_| NvmeError::Registers)?;
        QueuePair::new(memory, ENTRIES, doorbells).map_err(|_| NvmeError::Registers)
    }

    /// Carries `command` out, for at most `time`. Returns its result.
    pub(super) fn execute(&mut self, command: &Command, time: Duration) -> Result<u32, NvmeError> {
        let id = self.next_id();
        self.pair.submit(&self.memory, id, command);
        self.pair.ring();
        let deadline = Instant::now() + time;
        loop {
            if let Some(completion) = self.complete() {
                // One that was given up before may come late.
                if completion.id != self.id {
                    continue;
                }
                return match completion.status {
                    status if status.is_success() => Ok(completion.result),
                    Status(status) => Err(NvmeError::Admin { status }),
                };
            }
            if Instant::now() > deadline {
                return Err(NvmeError::Hung);
            }
            self.space.bus().pause();
        }
    }

    /// Takes the next completion of another command than an Abort.
    fn complete(&mut self) -> Option<Completion> {
        while let Some(completion) = self.pair.complete() {
            self.pair.ring();
            if completion.id == EVENT {
                let told = completion.status.is_success();
                self.event = told.then(|| NvmeEvent::new(completion.result));
            } else if completion.id & ABORT != 0 {
                // Whether it was obeyed, the command that it was about tells.
                self.aborts = self.aborts.saturating_sub(1);
            } else {
                return Some(completion);
            }
        }
        None
    }

    /// Has the controller tell of events, one at a time, which every controller can.
    pub(super) fn listen(&mut self, time: Duration) -> Result<(), NvmeError> {
        // Not all have namespaces that change.
        for notices in [NAMESPACES_CHANGED, 0] {
            match self.execute(&Command::set_events(notices), time) {
                Ok(_) => break,
                Err(NvmeError::Admin { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        self.request_event();
        Ok(())
    }

    fn request_event(&mut self) {
        let request = Command::event_request();
        self.pair.submit(&self.memory, EVENT, &request);
        self.pair.ring();
    }

    /// Returns what the controller has told of. It may tell of the next then.
    pub(super) fn event(&mut self, time: Duration) -> Option<NvmeEvent> {
        while self.complete().is_some() {}
        let event = self.event.take()?;
        let page = self.memory.address(pair_bytes(ENTRIES));
        // A controller that has no such log does not wait for its reading.
        let _ = self.execute(&Command::log_page(event.log_page(), LOG_BYTES, page), time);
        self.request_event();
        Some(event)
    }

    fn next_id(&mut self) -> u16 {
        self.id = self.id.wrapping_add(1) % EVENT;
        self.id
    }

    /// Learns that the controller takes `most` Aborts at one time.
    pub(super) fn set_aborts_max(&mut self, most: u16) {
        self.aborts_max = most.min(ENTRIES / 2);
    }

    /// Asks for the end of `commands` of queue `queue`, for at most `time`. Returns whether all Aborts were answered,
    /// however: before they are, the controller may still end another command of the same number.
    pub(super) fn abort(
        &mut self,
        queue: u16,
        mut commands: impl Iterator<Item = u16>,
        time: Duration,
    ) -> bool {
        if self.owes_aborts() {
            // Others have waited for it.
            return false;
        }
        let deadline = Instant::now() + time;
        let mut next = commands.next();
        loop {
            while self.aborts < self.aborts_max
                && let Some(command) = next
            {
                self.aborts += 1;
                let id = self.next_id() | ABORT;
                let abort = Command::abort(queue, command);
                self.pair.submit(&self.memory, id, &abort);
                next = commands.next();
            }
            self.pair.ring();
            while self.complete().is_some() {}
            if next.is_none() && !self.owes_aborts() {
                return true;
            }
            if Instant::now() > deadline {
                return !self.owes_aborts();
            }
            self.space.bus().pause();
        }
    }

    /// Returns whether the controller has Aborts that it has not answered.
    pub(super) fn owes_aborts(&self) -> bool {
        self.aborts > 0
    }

    /// Returns the identify structure `cns` of namespace `nsid`, within `time`.
    pub(super) fn identify(
        &mut self,
        cns: u8,
        nsid: u32,
        time: Duration,
    ) -> Result<Box<[u8; IDENTIFY_BYTES]>, NvmeError> {
        let offset = pair_bytes(ENTRIES);
        let command = Command::identify(cns, nsid, self.memory.address(offset));
        self.execute(&command, time)?;
        let mut page = Box::new([0; IDENTIFY_BYTES]);
        let data = self.memory.segment(offset, IDENTIFY_BYTES as u64);
        data.map_err(|_| NvmeError::Registers)?.copy_to(&mut *page);
        Ok(page)
    }
}
