//! A controller in memory, for tests. It has no thread: it works when it is stepped, and whenever something is awaited
//! from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::dma::{Bus, PAGE_BYTES};
use super::registers::{ACQ, AQA, ASQ, CAP, CC, CSTS, DOORBELLS};
use crate::mem::testing::region;
use crate::mem::{Direction, Iova, Mapping, Region, RegionTable};

mod execute;

const BAR_BYTES: u64 = 0x4000;

/// A handle on the controller: on its bus, and on what a test makes of it.
#[derive(Clone, Debug)]
pub(super) struct Model(Arc<Mutex<State>>);

/// A submission queue entry that was fetched.
pub(super) type Fetched = [u8; 64];

#[derive(Debug)]
pub(super) struct State {
    bar: Region,
    memory: RegionTable,
    regions: BTreeMap<u64, Arc<Mapping>>,
    pub(super) is_master: bool,
    queues: BTreeMap<u16, Queue>,
    /// The namespace's bytes.
    pub(super) disk: Vec<u8>,
    pub(super) block_bytes: usize,
    /// Most data pages of a command, as an exponent; 0 is no limit.
    pub(super) mdts: u8,
    /// Ranges of a deallocation.
    pub(super) ranges_max: u8,
    pub(super) volatile_cache: bool,
    pub(super) metadata_bytes: u8,
    pub(super) write_protected: bool,
    /// I/O commands stay with the controller.
    pub(super) holds: bool,
    pub(super) held: Vec<(u16, Fetched)>,
    pub(super) abort_answer: AbortAnswer,
    /// Most Aborts at one time, counted from 0.
    pub(super) acl: u8,
    /// Aborts that were fetched and not answered, and the most that there were.
    aborts: Vec<Fetched>,
    pub(super) aborts_seen_max: usize,
    /// Submission queues that were deleted.
    pub(super) deletions: u32,
    pub(super) resets: u32,
    /// Requests to be told of an event; events that nobody was told of.
    listeners: Vec<Fetched>,
    pub(super) events: Vec<u32>,
    /// Logs that were read.
    pub(super) logs_read: Vec<u8>,
    /// Namespaces do not change.
    pub(super) is_fixed: bool,
    /// No queue is deleted, nor is that answered.
    pub(super) ignores_deletions: bool,
    /// Nothing is answered, not even a reset.
    pub(super) is_stuck: bool,
    /// I/O commands on this block fail, with that status.
    pub(super) bad: Option<(u64, u16)>,
    /// All I/O commands that were fetched.
    pub(super) seen: Vec<Fetched>,
    pub(super) shutdowns: u32,
}

/// What becomes of an Abort, and of the command that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbortAnswer {
    /// The command ends as aborted.
    Obeyed,
    /// The command stays.
    Refused,
    /// The command has just ended well.
    TooLate,
    /// There is none, and the command stays.
    Silence,
}

#[derive(Debug, Default)]
struct Queue {
    submissions: u64,
    completions: u64,
    entries: u16,
    head: u16,
    tail: u16,
    /// Entries that were fetched, and not completed.
    phase: bool,
}

impl Model {
    /// Returns a controller with queues of at most 8 entries and a namespace of 8 MiB, of blocks of 512 bytes.
    pub(super) fn new() -> Self {
        let bar = region(0, BAR_BYTES);
        let state = State {
            bar,
            memory: RegionTable::default(),
            regions: BTreeMap::new(),
            is_master: false,
            queues: BTreeMap::new(),
            disk: (0..8_u32 << 20).map(|byte| (byte / 7) as u8).collect(),
            block_bytes: 512,
            mdts: 0,
            ranges_max: 0,
            volatile_cache: true,
            metadata_bytes: 0,
            write_protected: false,
            holds: false,
            held: Vec::new(),
            abort_answer: AbortAnswer::Obeyed,
            acl: 3,
            aborts: Vec::new(),
            aborts_seen_max: 0,
            deletions: 0,
            resets: 0,
            listeners: Vec::new(),
            events: Vec::new(),
            logs_read: Vec::new(),
            is_fixed: false,
            ignores_deletions: false,
            is_stuck: false,
            bad: None,
            seen: Vec::new(),
            shutdowns: 0,
        };
        // 8 entries, half a second to become ready, doorbells 4 bytes apart, the NVM command set.
        state.store(CAP, 7 | 1 << 24);
        state.store(CAP + 4, 1 << 5);
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test has panicked with it")
    }

    /// Returns the registers, as a driver maps them.
    pub(super) fn bar(&self) -> RegionTable {
        RegionTable::new(vec![self.state().bar.clone()]).expect("one region")
    }

    /// Returns how many pieces of memory the device reaches.
    pub(super) fn mapped(&self) -> usize {
        self.state().regions.len()
    }

    /// Does all that it was told to.
    pub(super) fn step(&self) {
        self.state().step();
    }

    /// Carries the `index`th command out that it held.
    pub(super) fn release(&self, index: usize) {
        let mut state = self.state();
        let (queue, command) = state.held.remove(index);
        state.finish(queue, &command);
    }

    /// Pulls the plug.
    pub(super) fn remove(&self) {
        let state = self.state();
        state.store(CSTS, u32::MAX);
        state.store(CC, u32::MAX);
    }
}

impl Bus for Model {
    fn map(&self, address: u64, mapping: &Arc<Mapping>) -> std::io::Result<()> {
        let mut state = self.state();
        state.regions.insert(address, Arc::clone(mapping));
        state.remap();
        Ok(())
    }

    fn unmap(&self, address: u64, bytes: u64) {
        let mut state = self.state();
        let unmapped = state.regions.remove(&address).expect("it was mapped");
        assert_eq!(unmapped.len() as u64, bytes);
        state.remap();
    }

    fn set_master(&self, master: bool) {
        self.state().is_master = master;
    }

    fn pause(&self) {
        self.step();
    }
}

impl State {
    fn remap(&mut self) {
        let regions = self.regions.iter().map(|(address, mapping)| Region {
            first: Iova(*address),
            last: Iova(address + mapping.len() as u64 - 1),
            mapping: Arc::clone(mapping),
        });
        self.memory = RegionTable::new(regions.collect()).expect("apart from each other");
    }

    fn registers(&self) -> RegionTable {
        RegionTable::new(vec![self.bar.clone()]).expect("one region")
    }

    fn load(&self, register: u64) -> u32 {
        let cell = self
            .registers()
            .cell::<AtomicU32>(Iova(register), Direction::Readable);
        cell.expect("a register").load(Ordering::Acquire)
    }

    fn store(&self, register: u64, value: u32) {
        let cell = self
            .registers()
            .cell::<AtomicU32>(Iova(register), Direction::Writable);
        cell.expect("a register").store(value, Ordering::Release);
    }

    fn load_64(&self, register: u64) -> u64 {
        u64::from(self.load(register)) | u64::from(self.load(register + 4)) << 32
    }

    fn step(&mut self) {
        if self.is_stuck {
            return;
        }
        let (cc, status) = (self.load(CC), self.load(CSTS));
        match (cc & 1, status & 1) {
            (1, 0) => self.enable(),
            (0, 1) => self.disable(),
            _ => {}
        }
        if cc >> 14 & 3 == 1 && status >> 2 & 3 == 0 {
            self.shutdowns += 1;
            self.store(CSTS, status | 2 << 2);
        }
        if self.abort_answer != AbortAnswer::Silence {
            for abort in std::mem::take(&mut self.aborts) {
                self.finish(0, &abort);
            }
        }
        for id in self.queues.keys().copied().collect::<Vec<_>>() {
            while let Some(command) = self.fetch(id) {
                if id == 0 && command[0] == 0x0c {
                    self.listeners.push(command);
                } else if id == 0 && command[0] == 0x08 {
                    // Answered in the next step, as it takes its time.
                    self.aborts.push(command);
                    self.aborts_seen_max = self.aborts_seen_max.max(self.aborts.len());
                } else if id == 0 {
                    if !self.ignores_deletions || ![0x00, 0x04].contains(&command[0]) {
                        self.finish(id, &command);
                    }
                } else {
                    self.seen.push(command);
                    match self.holds {
                        true => self.held.push((id, command)),
                        false => self.finish(id, &command),
                    }
                }
            }
        }
        self.tell();
    }

    /// Tells whoever listens of the next event.
    fn tell(&mut self) {
        assert!(
            self.listeners.len() <= 1,
            "more than every controller takes"
        );
        if !self.events.is_empty()
            && let Some(listener) = self.listeners.pop()
        {
            let event = self.events.remove(0);
            self.complete(0, &listener, 0, event);
        }
    }

    fn enable(&mut self) {
        let entries = self.load(AQA) as u16 + 1;
        let admin = Queue::new(self.load_64(ASQ), self.load_64(ACQ), entries);
        self.queues.insert(0, admin);
        self.store(CSTS, 1);
    }

    fn disable(&mut self) {
        self.queues.clear();
        self.held.clear();
        self.aborts.clear();
        self.listeners.clear();
        self.resets += 1;
        for doorbell in 0..8 {
            self.store(DOORBELLS + 4 * doorbell, 0);
        }
        self.store(CSTS, 0);
    }

    fn fetch(&mut self, id: u16) -> Option<Fetched> {
        let told = self.load(DOORBELLS + 8 * u64::from(id)) as u16;
        let queue = self.queues.get_mut(&id)?;
        if queue.head == told {
            return None;
        }
        assert!(told < queue.entries, "queue {id}: tail {told}");
        let at = Iova(queue.submissions + 64 * u64::from(queue.head));
        queue.head = (queue.head + 1) % queue.entries;
        let mut command = [0; 64];
        self.memory.read(at, &mut command).expect("a queue");
        Some(command)
    }

    /// Carries a command out and says so.
    fn finish(&mut self, id: u16, command: &Fetched) {
        let (status, result) = self.execute(id, command);
        self.complete(id, command, status, result);
    }

    fn complete(&mut self, id: u16, command: &Fetched, status: u16, result: u32) {
        let told = self.load(DOORBELLS + 8 * u64::from(id) + 4) as u16;
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        let at = queue.completions + 16 * u64::from(queue.tail);
        let mut entry = [0; 16];
        entry[..4].copy_from_slice(&result.to_le_bytes());
        entry[8..10].copy_from_slice(&queue.head.to_le_bytes());
        entry[10..12].copy_from_slice(&id.to_le_bytes());
        entry[12..14].copy_from_slice(&command[2..4]);
        let phased = status << 1 | u16::from(queue.phase);
        entry[14..].copy_from_slice(&phased.to_le_bytes());
        queue.tail = (queue.tail + 1) % queue.entries;
        assert_ne!(queue.tail, told, "completion queue {id} is full");
        if queue.tail == 0 {
            queue.phase = !queue.phase;
        }
        self.write(at, &entry);
    }

    /// Writes what is in memory, if the device reaches it.
    fn write(&self, address: u64, bytes: &[u8]) -> bool {
        let memory = &self.memory;
        let segment = memory.segment(Iova(address), bytes.len() as u64, Direction::Writable);
        let reached = segment.is_ok() && self.is_master;
        if let (true, Ok(segment)) = (reached, segment) {
            segment.copy_from(bytes);
        }
        reached
    }
}

impl Queue {
    fn new(submissions: u64, completions: u64, entries: u16) -> Self {
        assert_eq!((submissions | completions) % PAGE_BYTES, 0);
        Self {
            submissions,
            completions,
            entries,
            phase: true,
            ..Self::default()
        }
    }
}
