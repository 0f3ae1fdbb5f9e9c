//! Both driver sides against plain models of a device: chains arrive as they were added, come back as
//! they were given, alone and in in-order batches, and each side is notified exactly when it asked.

mod device_model;

use std::collections::VecDeque;

use device_model::packed::PackedDevice;
use device_model::split::SplitDevice;
use device_model::{Device, Piece, Taken};
use pollux_dataplane::driver::{Buffer, DriverMemory, QueueDriver, Used};
use pollux_dataplane::mem::{Direction, Iova};
use pollux_dataplane::ring::RingFeatures;
use proptest::prelude::*;

/// What a side asked to be notified of, counted in steps of the ring since the start.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Nothing,
    Anything,
    At(u64),
}

impl Wish {
    /// Returns whether moving from `from` to `to` fulfils it, in a ring that says the same again after
    /// `period` steps.
    fn fulfilled(self, from: u64, to: u64, period: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Anything => from != to,
            Self::At(step) => (from..to).any(|passed| passed % period == step % period),
        }
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Action {
    /// The driver adds a chain of so many buffers, so many of which the device reads.
    Add(usize, usize),
    Publish,
    AskAboutKick,
    Poll(usize),
    RequestInterrupt,
    SuppressInterrupts,
    /// The device takes so many chains.
    Take(usize),
    /// It returns that one of what it has, or so many in order.
    Give(usize, u32),
    AskAboutInterrupt,
    RequestKick,
    SuppressKicks,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1..7_usize, any::<usize>())
            .prop_map(|(buffers, readable)| Action::Add(buffers, readable % (buffers + 1))),
        3 => Just(Action::Publish),
        2 => Just(Action::AskAboutKick),
        4 => (1..6_usize).prop_map(Action::Poll),
        1 => Just(Action::RequestInterrupt),
        1 => Just(Action::SuppressInterrupts),
        4 => (1..6_usize).prop_map(Action::Take),
        4 => (any::<usize>(), prop_oneof![Just(0), any::<u32>()])
            .prop_map(|(place, written)| Action::Give(place, written)),
        2 => Just(Action::AskAboutInterrupt),
        1 => Just(Action::RequestKick),
        1 => Just(Action::SuppressKicks),
    ]
}

/// A driver, a device, and what is known of both without looking into the ring.
struct Play {
    memory: DriverMemory,
    data: Iova,
    features: RingFeatures,
    size: u16,
    driver: QueueDriver,
    device: Box<dyn Device>,
    unpublished: Vec<Taken>,
    published: VecDeque<Taken>,
    taken: Vec<Taken>,
    returned: VecDeque<(Used, u16)>,
    /// Descriptors that the driver has left.
    free: u16,
    /// Steps of the ring: added, shown, taken; given, told of; taken back.
    added: u64,
    shown: u64,
    kicked: u64,
    popped: u64,
    given: u64,
    told: u64,
    polled: u64,
    kick: Wish,
    interrupt: Wish,
    serial: u64,
}

impl Play {
    fn new(size: u16, features: RingFeatures, start: Option<u16>) -> Self {
        let mut memory = DriverMemory::new(1 << 18).unwrap();
        let driver = match start {
            None => QueueDriver::new(&mut memory, size, features),
            Some(start) => QueueDriver::starting_at(&mut memory, size, features, start),
        };
        let device: Box<dyn Device> = match &driver {
            QueueDriver::Split(queue) => Box::new(SplitDevice::new(queue.config())),
            QueueDriver::Packed(queue) => {
                let mut device = PackedDevice::new(queue.config());
                device.reserved_length = 0xdead;
                Box::new(device)
            }
        };
        // Zeroed memory: index 0 of a split ring, anything in a packed one.
        let index = driver.config().next_avail;
        let nothing_asked = if Self::asks_by_index(features) {
            Wish::At(u64::from(index.wrapping_neg()))
        } else {
            Wish::Anything
        };
        Self {
            data: memory.allocate(1 << 12, 16),
            memory,
            features,
            size,
            driver,
            device,
            unpublished: Vec::new(),
            published: VecDeque::new(),
            taken: Vec::new(),
            returned: VecDeque::new(),
            free: size,
            added: 0,
            shown: 0,
            kicked: 0,
            popped: 0,
            given: 0,
            told: 0,
            polled: 0,
            kick: nothing_asked,
            interrupt: nothing_asked,
            serial: 0,
        }
    }

    fn asks_by_index(features: RingFeatures) -> bool {
        features.contains(RingFeatures::EVENT_IDX) && !features.contains(RingFeatures::RING_PACKED)
    }

    /// What a side asks for that wants to hear of the next step after `at`.
    fn next_step(&self, at: u64) -> Wish {
        if self.features.contains(RingFeatures::EVENT_IDX) {
            Wish::At(at)
        } else {
            Wish::Anything
        }
    }

    /// What a side asks for that wants to hear of nothing.
    fn no_step(&self, at: u64) -> Wish {
        if Self::asks_by_index(self.features) {
            // There is no way to say never.
            Wish::At(at + 0xffff)
        } else {
            Wish::Nothing
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Add(buffers, readable) => self.add(buffers, readable),
            Action::Publish => self.publish(),
            Action::AskAboutKick => {
                // A driver asks after it has published.
                self.publish();
                let expected = self
                    .kick
                    .fulfilled(self.kicked, self.shown, self.device.period());
                assert_eq!(self.driver.kick_wanted(), expected, "a kick");
                self.kicked = self.shown;
            }
            Action::Poll(count) => (0..count).for_each(|_| self.poll()),
            Action::RequestInterrupt => {
                let waiting = self.driver.request_interrupt();
                assert_eq!(waiting, self.given > self.polled);
                self.interrupt = self.next_step(self.polled);
            }
            Action::SuppressInterrupts => {
                self.driver.suppress_interrupts();
                self.interrupt = self.no_step(self.polled);
            }
            Action::Take(count) => (0..count).for_each(|_| self.take()),
            Action::Give(place, written) => self.give(place, written),
            Action::AskAboutInterrupt => {
                let period = self.device.period();
                let expected = self.interrupt.fulfilled(self.told, self.given, period);
                let wanted = self.device.interrupt_wanted(&self.memory);
                self.device.interrupt_settled();
                assert_eq!(wanted, expected, "an interrupt");
                self.told = self.given;
            }
            Action::RequestKick => {
                let waiting = self.device.request_kick(&self.memory);
                assert_eq!(waiting, self.shown > self.popped);
                self.kick = self.next_step(self.popped);
            }
            Action::SuppressKicks => {
                self.device.suppress_kicks(&self.memory);
                // Behind what the driver may be about to announce.
                let size = u64::from(self.driver.config().size);
                self.kick = match self.no_step(self.popped) {
                    Wish::At(at) => Wish::At(at - size),
                    other => other,
                };
            }
        }
    }

    fn add(&mut self, buffers: usize, readable: usize) {
        let pieces: Vec<Piece> = (0..buffers)
            .map(|place| {
                self.serial += 1;
                let address = self.data.0 + self.serial % 4000;
                (address, 1 + (self.serial % 64) as u32, place >= readable)
            })
            .collect();
        let chain: Vec<Buffer> = pieces
            .iter()
            .map(|&(address, bytes, writable)| Buffer {
                address: Iova(address),
                bytes,
                direction: if writable {
                    Direction::Writable
                } else {
                    Direction::Readable
                },
            })
            .collect();
        let indirect = self.features.contains(RingFeatures::INDIRECT_DESC) && buffers > 1;
        let needed = if indirect { 1 } else { buffers as u16 };
        let id = self.driver.add(&chain);
        let fits = needed <= self.free && buffers <= usize::from(self.size);
        assert_eq!(id.is_some(), fits, "{needed} of {} free", self.free);
        let Some(id) = id else {
            return;
        };
        let known = self.unpublished.iter().chain(&self.published);
        let mut known = known.chain(&self.taken).map(|chain| chain.id);
        let returned = self.returned.iter().any(|(used, _)| used.head == id);
        assert!(!returned && known.all(|other| other != id), "{id} twice");
        let is_packed = self.features.contains(RingFeatures::RING_PACKED);
        let steps = if is_packed { needed } else { 1 };
        self.free -= needed;
        self.added += u64::from(steps);
        self.unpublished.push(Taken { id, steps, pieces });
    }

    fn publish(&mut self) {
        self.driver.publish();
        self.published.extend(self.unpublished.drain(..));
        self.shown = self.added;
    }

    fn take(&mut self) {
        let taken = self.device.pop(&self.memory);
        assert_eq!(taken, self.published.pop_front());
        if let Some(taken) = taken {
            self.popped += u64::from(taken.steps);
            self.taken.push(taken);
        }
    }

    fn give(&mut self, place: usize, written: u32) {
        if self.taken.is_empty() {
            return;
        }
        let place = place % self.taken.len();
        let batch: Vec<Taken> = if self.features.contains(RingFeatures::IN_ORDER) {
            self.taken.drain(..=place).collect()
        } else {
            vec![self.taken.swap_remove(place)]
        };
        self.device.give(&self.memory, &batch, written);
        for (rest, chain) in (0..batch.len()).rev().zip(&batch) {
            let writable = chain.pieces.iter().filter(|piece| piece.2);
            let all = writable.map(|piece| piece.1).sum();
            let written = if rest == 0 { written } else { all };
            let head = chain.id;
            let is_direct = !self.features.contains(RingFeatures::INDIRECT_DESC);
            let descriptors = if is_direct { chain.pieces.len() } else { 1 };
            self.returned
                .push_back((Used { head, written }, descriptors as u16));
            self.given += u64::from(chain.steps);
        }
    }

    fn poll(&mut self) {
        let expected = self.returned.pop_front();
        assert_eq!(self.driver.poll(), expected.map(|(used, _)| used));
        if let Some((_, descriptors)) = expected {
            self.free += descriptors;
            let is_packed = self.features.contains(RingFeatures::RING_PACKED);
            self.polled += u64::from(if is_packed { descriptors } else { 1 });
        }
    }

    /// Everything comes to its end.
    fn finish(&mut self) {
        self.act(&Action::AskAboutKick);
        while !self.published.is_empty() {
            self.take();
        }
        self.take();
        while !self.taken.is_empty() {
            self.give(0, 1);
        }
        self.act(&Action::AskAboutInterrupt);
        while !self.returned.is_empty() {
            self.poll();
        }
        self.poll();
        assert_eq!(self.free, self.size, "every descriptor came back");
    }
}

/// Returns `start` as one that a queue of `size` can have: of a packed one the slot is in the ring.
fn in_ring(start: u16, size: u16, features: RingFeatures) -> u16 {
    if features.contains(RingFeatures::RING_PACKED) {
        start & (1 << 15 | (size - 1))
    } else {
        start
    }
}

fn features() -> impl Strategy<Value = RingFeatures> {
    let all = [
        RingFeatures::INDIRECT_DESC,
        RingFeatures::EVENT_IDX,
        RingFeatures::RING_PACKED,
        RingFeatures::IN_ORDER,
    ];
    prop::array::uniform4(any::<bool>()).prop_map(move |chosen| {
        let mut features = RingFeatures::empty();
        let pairs = all.into_iter().zip(chosen);
        pairs.for_each(|(feature, on)| features.set(feature, on));
        features
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_driver_side_and_a_plain_device_agree(
        size_log2 in 2..6_u32,
        features in features(),
        start in any::<u16>(),
        actions in prop::collection::vec(action(), 1..200),
    ) {
        let size = 1 << size_log2;
        let mut play = Play::new(size, features, Some(in_ring(start, size, features)));
        for action in &actions {
            play.act(action);
        }
        play.finish();
    }
}

/// Past the wrap of the 16-bit indexes of a split ring, and many thousand laps of a packed one.
#[test]
fn indexes_and_wrap_counters_go_round_under_load() {
    for packed in [RingFeatures::empty(), RingFeatures::RING_PACKED] {
        for in_order in [RingFeatures::empty(), RingFeatures::IN_ORDER] {
            let features = packed | in_order | RingFeatures::EVENT_IDX;
            let mut play = Play::new(8, features, None);
            // 3 + 3 + 1 of 8 slots: each round starts at another one.
            let round = [
                Action::RequestKick,
                Action::Add(3, 1),
                Action::Add(3, 2),
                Action::Add(1, 0),
                Action::AskAboutKick,
                Action::Take(2),
                Action::RequestInterrupt,
                Action::Give(1, 5),
                Action::AskAboutInterrupt,
                Action::Take(1),
                Action::Poll(3),
                Action::Give(0, 7),
                Action::Give(0, 9),
                Action::AskAboutInterrupt,
                Action::Poll(3),
            ];
            for _ in 0..22_500 {
                round.iter().for_each(|action| play.act(action));
            }
            assert!(play.given > 1 << 16, "{}", play.given);
            play.finish();
        }
    }
}

/// A device may return a chain that it was never given.
#[test]
fn a_nonsense_used_entry_is_passed_on_and_frees_nothing() {
    for packed in [RingFeatures::empty(), RingFeatures::RING_PACKED] {
        for in_order in [RingFeatures::empty(), RingFeatures::IN_ORDER] {
            for id in [3, 4, 0xffff] {
                let mut play = Play::new(4, packed | in_order, None);
                let chain = |id| Taken {
                    id,
                    steps: 1,
                    pieces: Vec::new(),
                };
                play.device.give(&play.memory, &[chain(id)], 9);
                let nonsense = Used {
                    head: id,
                    written: 9,
                };
                assert_eq!(play.driver.poll(), Some(nonsense));
                assert_eq!(play.driver.poll(), None);
            }
        }
    }
}
