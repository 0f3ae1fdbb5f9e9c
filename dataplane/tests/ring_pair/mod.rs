//! Two devices and a driver: ours works on the driver's memory, a plain model on a copy of it, and each step
//! is compared.

#![allow(unreachable_pub)]

use std::collections::VecDeque;

use pollux_dataplane::driver::{Buffer, DriverMemory, QueueDriver, Used};
use pollux_dataplane::mem::{Iova, RegionTable, Translator};
use pollux_dataplane::ring::{Backlog, Chain, DeviceQueue, Done, Head, QueueConfig, RingFeatures};
use proptest::prelude::*;

use crate::device_model::packed::PackedDevice;
use crate::device_model::split::SplitDevice;
use crate::device_model::{Device, Piece, Taken};

const MEMORY_BYTES: u64 = 1 << 17;
const DATA_BYTES: u64 = 1 << 13;

/// What the driver asks to be told of.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Next,
    Nothing,
    /// So far from the next used entry, whatever that means.
    Around(i16),
}

/// What the driver and the device do in turn.
#[derive(Clone, Debug)]
pub struct Round {
    /// Buffers and how many of them are readable.
    chains: Vec<(usize, usize)>,
    ask: Ask,
    suppress: bool,
    take: usize,
    /// Put the chain taken last back and take it again.
    put_back: bool,
    give: usize,
    order: u64,
    /// Which of the chains given are filled completely.
    whole: u64,
    /// Hold the interrupt, should it be asked for.
    hold: bool,
    arm: bool,
    poll: usize,
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        Just(Ask::Next),
        Just(Ask::Nothing),
        (-12..12_i16).prop_map(Ask::Around),
    ]
}

prop_compose! {
    pub fn round()(
        chains in prop::collection::vec((1..7_usize, 0..7_usize), 0..8),
        ask in ask(),
        suppress in any::<bool>(),
        take in 0..12_usize,
        put_back in any::<bool>(),
        give in 0..12_usize,
        order in any::<u64>(),
        whole in any::<u64>(),
        hold in any::<bool>(),
        arm in any::<bool>(),
        poll in 0..12_usize,
    ) -> Round {
        Round { chains, ask, suppress, take, put_back, give, order, whole, hold, arm, poll }
    }
}

/// What is known of a chain that both devices have.
struct Lent {
    taken: Taken,
    head: Option<Head>,
    /// Written bytes, and whether that is all, once it is done.
    done: Option<(u32, bool)>,
}

pub struct Pair<Q> {
    memory: DriverMemory,
    driver: QueueDriver,
    config: QueueConfig,
    data: Iova,
    serial: u64,
    translator: Translator,
    ours: Q,
    model: Box<dyn Device>,
    model_memory: DriverMemory,
    /// Taken and not returned, oldest first.
    lent: VecDeque<Lent>,
    /// Returned and not taken back, with the steps of each.
    returned: VecDeque<(Used, u64)>,
    /// Steps of the ring that were taken, returned, interrupted for, and taken back by the driver.
    popped: u64,
    given: u64,
    settled: u64,
    polled: u64,
}

impl<Q: DeviceQueue> Pair<Q> {
    pub fn new(
        size: u16,
        features: RingFeatures,
        start: u16,
        ours: impl FnOnce(&QueueConfig, &RegionTable) -> Q,
    ) -> Self {
        let mut memory = DriverMemory::new(MEMORY_BYTES).unwrap();
        let driver = QueueDriver::starting_at(&mut memory, size, features, start);
        let config = driver.config();
        let model: Box<dyn Device> = match driver {
            QueueDriver::Split(_) => Box::new(SplitDevice::new(config)),
            QueueDriver::Packed(_) => Box::new(PackedDevice::new(config)),
        };
        let table = memory.table();
        let model_memory = DriverMemory::new(MEMORY_BYTES).unwrap();
        // A split queue starts at the index that is there.
        let used = memory.read(config.device_area, 4);
        model_memory.write(config.device_area, &used);
        Self {
            data: memory.allocate(DATA_BYTES, 16),
            driver,
            config,
            serial: 0,
            ours: ours(&config, &table),
            translator: Translator::new(table),
            model,
            model_memory,
            memory,
            lent: VecDeque::new(),
            returned: VecDeque::new(),
            popped: 0,
            given: 0,
            settled: 0,
            polled: 0,
        }
    }

    fn is_packed(&self) -> bool {
        self.config.features.contains(RingFeatures::RING_PACKED)
    }

    fn has_event_idx(&self) -> bool {
        self.config.features.contains(RingFeatures::EVENT_IDX)
    }

    pub fn round(&mut self, round: &Round) {
        for &(buffers, readable) in &round.chains {
            self.add(buffers, readable);
        }
        self.driver.publish();
        self.ask(round.ask);
        self.copy();
        if round.suppress {
            self.ours.suppress_kicks();
            self.model.suppress_kicks(&self.model_memory);
            self.compare();
        }
        for _ in 0..round.take {
            self.take(round.put_back);
        }
        self.give(round);
        self.ours.publish();
        self.compare();
        self.interrupt(round);
        if round.arm {
            let ours = self.ours.request_kick().unwrap();
            assert_eq!(ours, self.model.request_kick(&self.model_memory));
            self.compare();
        }
        for _ in 0..round.poll {
            self.poll();
        }
    }

    fn add(&mut self, buffers: usize, readable: usize) {
        let chain: Vec<Buffer> = (0..buffers)
            .map(|place| {
                self.serial += 1;
                let address = Iova(self.data.0 + self.serial % (DATA_BYTES - 64));
                let bytes = 1 + (self.serial % 64) as u32;
                if place < readable {
                    Buffer::readable(address, bytes)
                } else {
                    Buffer::writable(address, bytes)
                }
            })
            .collect();
        self.driver.add(&chain);
    }

    fn ask(&mut self, ask: Ask) {
        let by = match ask {
            Ask::Next => {
                self.driver.request_interrupt();
                return;
            }
            Ask::Nothing => return self.driver.suppress_interrupts(),
            Ask::Around(by) => by,
        };
        if !self.has_event_idx() {
            return;
        }
        let next_used = self.ours.state().next_used;
        let size = self.config.size;
        if self.is_packed() {
            // Counted on two laps, the first with wrap counter 1.
            let lap = if next_used >> 15 == 1 { 0 } else { size };
            let step = (next_used & 0x7fff) + lap;
            let step = (step + 2 * size).wrapping_add_signed(by) % (2 * size);
            let wrap = u32::from(step < size) << 15;
            let desc = u32::from(step % size) | wrap;
            let event = desc | 2 << 16;
            let area = self.config.driver_area;
            self.memory.write(area, &event.to_le_bytes());
        } else {
            let used_event = self.config.driver_area.0 + 4 + 2 * u64::from(size);
            let index = next_used.wrapping_add_signed(by);
            self.memory.write(Iova(used_event), &index.to_le_bytes());
        }
    }

    /// Shows the model what the driver wrote: everything but the device area.
    fn copy(&self) {
        let start = self.config.descriptor_area;
        let all = self.memory.read(start, MEMORY_BYTES as usize);
        let own = self.device_area(&self.model_memory);
        self.model_memory.write(start, &all);
        self.model_memory.write(self.config.device_area, &own);
    }

    fn device_area(&self, memory: &DriverMemory) -> Vec<u8> {
        let split = 6 + 8 * usize::from(self.config.size);
        let bytes = if self.is_packed() { 4 } else { split };
        memory.read(self.config.device_area, bytes)
    }

    fn take(&mut self, put_back: bool) {
        let (first, ours) = self.take_ours();
        let (head, ours) = match first {
            Some(head) if put_back => {
                self.ours.put_back(head);
                let (again, same) = self.take_ours();
                assert_eq!(ours, same, "a chain that was put back");
                (again, same)
            }
            first => (first, ours),
        };
        let theirs = self.model.pop(&self.model_memory);
        let expected = theirs.as_ref().map(|taken| (taken.id, &taken.pieces));
        let ours = ours.as_ref().map(|(id, pieces)| (*id, pieces));
        assert_eq!(ours, expected);
        if let Some(taken) = theirs {
            self.popped += u64::from(taken.steps);
            let done = None;
            self.lent.push_back(Lent { taken, head, done });
        }
    }

    fn take_ours(&mut self) -> (Option<Head>, Option<(u16, Vec<Piece>)>) {
        let has_available = self.ours.has_available().unwrap();
        let mut chain = Chain::new(&self.translator);
        let head = self.ours.take(&mut chain).unwrap();
        assert_eq!(head.is_some(), has_available);
        let Some(head) = head else {
            return (None, None);
        };
        assert_eq!(chain.fault(), None);
        let base = self.memory.at(self.data, 1).as_ptr() as usize;
        let mut pieces = Vec::new();
        for (segments, writable) in [(chain.readable(), false), (chain.writable(), true)] {
            for segment in segments {
                let offset = segment.as_ptr() as usize - base;
                pieces.push((self.data.0 + offset as u64, segment.len() as u32, writable));
            }
        }
        let last = chain.last_writable().map(|(_, at)| at.0);
        let expected = pieces.last().filter(|piece| piece.2);
        let expected = expected.map(|piece| piece.0 + u64::from(piece.1) - 1);
        assert_eq!(last, expected, "the last byte");
        let id = head.id();
        (Some(head), Some((id, pieces)))
    }

    /// Finishes some of the chains, in any order. In order they go back as far as they are finished from
    /// the oldest on; a batch ends where a chain is not filled completely.
    fn give(&mut self, round: &Round) {
        for turn in 0..round.give as u32 {
            let waiting = self.lent.iter().filter(|lent| lent.done.is_none()).count();
            if waiting == 0 {
                break;
            }
            let choice = round.order.rotate_left(7 * turn) as usize % waiting;
            let mut lent = self.lent.iter_mut().filter(|lent| lent.done.is_none());
            let lent = lent.nth(choice).unwrap();
            let writable = lent.taken.pieces.iter().filter(|piece| piece.2);
            let all: u32 = writable.map(|piece| piece.1).sum();
            let is_whole = round.whole.rotate_left(turn) & 1 == 1;
            let written = if is_whole { all } else { all / 2 };
            lent.done = Some((written, is_whole));
            let head = lent.head.take().unwrap();
            let done: Done = if is_whole {
                head.done_whole(written)
            } else {
                head.done(written)
            };
            self.ours.push(done);
            if !self.config.features.contains(RingFeatures::IN_ORDER) {
                let place = self.lent.iter().position(|lent| lent.done.is_some());
                let lent = self.lent.remove(place.unwrap()).unwrap();
                self.give_batch(vec![lent]);
            }
        }
        let mut batch = Vec::new();
        while self.lent.front().is_some_and(|lent| lent.done.is_some()) {
            let lent = self.lent.pop_front().unwrap();
            let is_whole = lent.done.is_some_and(|(_, is_whole)| is_whole);
            batch.push(lent);
            if !is_whole {
                self.give_batch(std::mem::take(&mut batch));
            }
        }
        self.give_batch(batch);
    }

    fn give_batch(&mut self, batch: Vec<Lent>) {
        if batch.is_empty() {
            return;
        }
        let mut chains = Vec::new();
        let mut last = 0;
        for lent in batch {
            let (written, _) = lent.done.unwrap();
            let head = lent.taken.id;
            let steps = u64::from(lent.taken.steps);
            self.returned.push_back((Used { head, written }, steps));
            self.given += steps;
            chains.push(lent.taken);
            last = written;
        }
        self.model.give(&self.model_memory, &chains, last);
    }

    fn interrupt(&mut self, round: &Round) {
        let ours = self.ours.interrupt_wanted();
        let theirs = self.model.interrupt_wanted(&self.model_memory);
        // After more than a lap a place in a packed ring may be one behind or one ahead.
        let is_clear = self.given - self.settled <= u64::from(self.config.size);
        if is_clear {
            assert_eq!(ours.is_some(), theirs, "an interrupt");
        }
        if let (Some(backlog), Ask::Next) = (ours, round.ask)
            && is_clear
            && self.has_event_idx()
        {
            let expected = Backlog {
                completed: (self.given - self.polled) as u16,
                outstanding: (self.popped - self.polled) as u16,
                stale: backlog.stale,
            };
            if self.is_packed() {
                assert_eq!(backlog, expected);
            } else {
                // A split queue has seen what was made available, taken or not.
                assert_eq!(backlog.completed, expected.completed);
                assert!(backlog.outstanding >= expected.outstanding);
            }
        }
        if ours.is_none() || !round.hold {
            self.ours.interrupt_settled();
            self.model.interrupt_settled();
            self.settled = self.given;
            assert_eq!(self.ours.interrupt_wanted(), None, "once is enough");
        }
    }

    fn compare(&self) {
        let start = self.config.descriptor_area;
        let bytes = 16 * usize::from(self.config.size);
        let ring = |memory: &DriverMemory| memory.read(start, bytes);
        assert_eq!(ring(&self.memory), ring(&self.model_memory), "the ring");
        let mut ours = self.device_area(&self.memory);
        let mut theirs = self.device_area(&self.model_memory);
        if self.is_packed() && theirs[2] != 2 {
            ours[..2].fill(0);
            theirs[..2].fill(0);
        }
        assert_eq!(ours, theirs, "the device area");
        assert_eq!(self.ours.state(), self.model.state());
    }

    fn poll(&mut self) {
        let expected = self.returned.pop_front();
        assert_eq!(self.driver.poll(), expected.map(|(used, _)| used));
        self.polled += expected.map_or(0, |(_, steps)| steps);
    }

    /// Everything comes to its end.
    pub fn finish(mut self) {
        let everything = Round {
            chains: Vec::new(),
            ask: Ask::Next,
            suppress: false,
            take: 64,
            put_back: false,
            give: 64,
            order: 0,
            whole: 0,
            hold: false,
            arm: true,
            poll: 64,
        };
        self.round(&everything);
        assert!(self.lent.is_empty() && self.returned.is_empty());
        assert_eq!(self.popped, self.polled);
    }
}
