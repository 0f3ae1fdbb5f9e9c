//! Our device side of a split virtqueue against the one of the `virtio-queue` crate: a random driver
//! writes the same bytes for both, and both must take the same chains and leave the same used ring.
//!
//! Compared: heads and their order; addresses, lengths and directions of all buffers, through direct,
//! indirect and mixed chains; used elements and `used_idx`, byte by byte; `used.flags` without event
//! indexes; `avail_event` after asking for kicks, and whether that found new chains; the decision to
//! interrupt with event indexes; the refusal of an avail index that jumped too far.
//!
//! Not compared, because the reference does something else on purpose:
//! - `avail_event` after suppressing kicks: the reference leaves it, we move it out of the way.
//! - The decision to interrupt without event indexes: the reference ignores
//!   VIRTQ_AVAIL_F_NO_INTERRUPT and always says yes. We are held to a plain model instead.
//! - When elements become visible: the reference publishes each, we publish a pass at a time. The rings
//!   are compared after publishing.
//! - Malformed chains: the reference cuts a chain short in silence where we report a driver fault.

mod raw_driver;

use std::collections::VecDeque;

use pollux_dataplane::mem::Translator;
use pollux_dataplane::ring::{Chain, DeviceQueue, DriverFault, Head, RingFeatures, SplitQueue};
use proptest::prelude::*;
use raw_driver::{ChainPlan, Driver, Piece, Round, round};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The reference, over memory of its own.
struct Reference {
    memory: GuestMemoryMmap,
    queue: Queue,
}

impl Reference {
    fn new(driver: &Driver) -> Self {
        let config = driver.config;
        let start = GuestAddress(config.descriptor_area.0);
        let memory = GuestMemoryMmap::from_ranges(&[(start, 1 << 20)]).unwrap();
        let mut queue = Queue::new(config.size).unwrap();
        queue
            .try_set_desc_table_address(GuestAddress(config.descriptor_area.0))
            .unwrap();
        queue
            .try_set_avail_ring_address(GuestAddress(config.driver_area.0))
            .unwrap();
        queue
            .try_set_used_ring_address(GuestAddress(config.device_area.0))
            .unwrap();
        queue.set_event_idx(config.features.contains(RingFeatures::EVENT_IDX));
        queue.set_next_avail(config.next_avail);
        queue.set_next_used(config.next_avail);
        queue.set_ready(true);
        assert!(queue.is_valid(&memory));
        let used_idx = GuestAddress(config.device_area.0 + 2);
        memory.write_obj(config.next_avail, used_idx).unwrap();
        Self { memory, queue }
    }

    /// Shows the reference what the driver wrote: everything below the device area.
    fn copy_from(&self, driver: &Driver) {
        let start = driver.config.descriptor_area;
        let bytes = driver.config.device_area.0 - start.0;
        let written = driver.memory.read(start, bytes as usize);
        let start = GuestAddress(start.0);
        self.memory.write_slice(&written, start).unwrap();
    }

    fn pop(&mut self) -> Option<(u16, Vec<Piece>)> {
        let mut chains = self.queue.iter(&self.memory).unwrap();
        let chain = chains.next()?;
        let head = chain.head_index();
        let pieces = chain.map(|found| (found.addr().0, found.len(), found.is_write_only()));
        Some((head, pieces.collect()))
    }

    fn device_area(&self, driver: &Driver) -> Vec<u8> {
        let mut bytes = vec![0; 6 + 8 * usize::from(driver.config.size)];
        let start = GuestAddress(driver.config.device_area.0);
        self.memory.read_slice(&mut bytes, start).unwrap();
        bytes
    }
}

/// Our side.
struct Ours {
    queue: SplitQueue,
    translator: Translator,
    /// Where the driver's memory lies in this process.
    base: usize,
    base_iova: u64,
}

impl Ours {
    fn new(driver: &Driver) -> Self {
        let table = driver.memory.table();
        let first = driver.config.descriptor_area;
        Self {
            queue: SplitQueue::new(&driver.config, &table).unwrap(),
            translator: Translator::new(table),
            base: driver.memory.at(first, 1).as_ptr() as usize,
            base_iova: first.0,
        }
    }

    fn pop(&mut self) -> Option<(Head, Vec<Piece>)> {
        let mut chain = Chain::new(&self.translator);
        let head = self.queue.take(&mut chain).unwrap()?;
        assert_eq!(chain.fault(), None);
        let mut pieces = Vec::new();
        for (segments, writable) in [(chain.readable(), false), (chain.writable(), true)] {
            for segment in segments {
                let offset = segment.as_ptr() as usize - self.base;
                let address = self.base_iova + offset as u64;
                pieces.push((address, segment.len() as u32, writable));
            }
        }
        Some((head, pieces))
    }
}

/// Everything that one case needs.
struct Pair {
    driver: Driver,
    ours: Ours,
    reference: Reference,
    /// Made available and not yet taken.
    offered: VecDeque<(u16, Vec<Piece>)>,
    /// Taken and not yet returned.
    taken: Vec<Head>,
    used_idx: u16,
    /// Neither side was told to suppress kicks since it last asked for them.
    avail_event_agrees: bool,
}

impl Pair {
    fn new(size: u16, start: u16, event_idx: bool) -> Self {
        let driver = Driver::new(size, start, event_idx);
        Self {
            ours: Ours::new(&driver),
            reference: Reference::new(&driver),
            driver,
            offered: VecDeque::new(),
            taken: Vec::new(),
            used_idx: start,
            avail_event_agrees: true,
        }
    }

    fn round(&mut self, round: &Round) {
        for plan in &round.chains {
            if let Some(head) = self.driver.add(plan) {
                self.offered.push_back((head, self.driver.pieces(plan)));
            }
        }
        self.driver.publish(round, self.used_idx);
        self.reference.copy_from(&self.driver);
        if round.suppress {
            self.ours.queue.suppress_kicks();
            let reference = &mut self.reference;
            reference
                .queue
                .disable_notification(&reference.memory)
                .unwrap();
            self.avail_event_agrees &= !self
                .driver
                .config
                .features
                .contains(RingFeatures::EVENT_IDX);
        }
        for _ in 0..round.take {
            self.take();
        }
        let returned = self.give(round);
        self.interrupt(round, returned);
        if round.arm {
            self.arm();
        }
        self.compare_device_areas();
    }

    fn take(&mut self) {
        let ours = self.ours.pop();
        let reference = self.reference.pop();
        let expected = self.offered.pop_front();
        assert_eq!(reference, expected, "the reference takes what was offered");
        match (ours, expected) {
            (None, None) => {}
            (Some((head, pieces)), Some(expected)) => {
                assert_eq!((head.id(), pieces), expected);
                self.taken.push(head);
            }
            (ours, expected) => panic!("took {ours:?} instead of {expected:?}"),
        }
        assert_eq!(
            self.ours.queue.next_avail(),
            self.reference.queue.next_avail()
        );
    }

    /// Returns some of the taken chains, in any order. Returns how many.
    fn give(&mut self, round: &Round) -> u16 {
        let mut returned = 0;
        while returned < round.give && !self.taken.is_empty() {
            let place = round.order.rotate_left(7 * returned as u32) as usize % self.taken.len();
            let head = self.taken.swap_remove(place);
            let written = round.order.rotate_left(11 * returned as u32) as u32;
            let index = head.id();
            self.ours.queue.push(head.done(written));
            let reference = &mut self.reference;
            reference
                .queue
                .add_used(&reference.memory, index, written)
                .unwrap();
            self.driver.free(index);
            returned += 1;
        }
        self.ours.queue.publish();
        self.used_idx = self.used_idx.wrapping_add(returned as u16);
        returned as u16
    }

    fn interrupt(&mut self, round: &Round, returned: u16) {
        let ours = self.ours.queue.interrupt_wanted().is_some();
        self.ours.queue.interrupt_settled();
        let reference = &mut self.reference;
        let theirs = reference
            .queue
            .needs_notification(&reference.memory)
            .unwrap();
        if self
            .driver
            .config
            .features
            .contains(RingFeatures::EVENT_IDX)
        {
            assert_eq!(ours, theirs);
        } else {
            assert_eq!(ours, returned > 0 && !round.no_interrupt);
        }
        let again = self.ours.queue.interrupt_wanted().is_some();
        assert!(!again, "one interrupt for what was returned once");
    }

    fn arm(&mut self) {
        let ours = self.ours.queue.request_kick().unwrap();
        let reference = &mut self.reference;
        let theirs = reference
            .queue
            .enable_notification(&reference.memory)
            .unwrap();
        assert_eq!(ours, theirs, "whether there is something to take");
        assert_eq!(ours, !self.offered.is_empty());
        self.avail_event_agrees = true;
    }

    fn compare_device_areas(&self) {
        let mut ours = self.driver.device_area();
        let mut theirs = self.reference.device_area(&self.driver);
        if !self.avail_event_agrees {
            ours.truncate(ours.len() - 2);
            theirs.truncate(theirs.len() - 2);
        }
        assert_eq!(ours, theirs, "flags, used_idx, elements, avail_event");
        assert_eq!(ours[2..4], self.used_idx.to_le_bytes());
    }

    fn jump(&mut self, by: u16) {
        let size = self.driver.config.size;
        let from = self.ours.queue.next_avail();
        let to = from.wrapping_add(size).wrapping_add(by);
        self.driver.write_driver_u16(2, to);
        self.reference.copy_from(&self.driver);
        let translator = Translator::new(self.driver.memory.table());
        let mut chain = Chain::new(&translator);
        // What was published before is still there to be taken.
        while self.offered.pop_front().is_some() {
            if let Ok(Some(head)) = self.ours.queue.take(&mut chain) {
                head.abandon();
            }
        }
        let from = self.ours.queue.next_avail();
        if to.wrapping_sub(from) > size {
            let refused = self.ours.queue.take(&mut chain);
            assert_eq!(refused, Err(DriverFault::AvailIndex { from, to, size }));
        }
        let reference = &mut self.reference;
        assert!(reference.queue.iter(&reference.memory).is_err());
    }
}

fn start() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0_u16), 65_500..=65_535_u16, any::<u16>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_take_the_same_chains_and_leave_the_same_rings(
        size_log2 in 2..7_u32,
        start in start(),
        event_idx in any::<bool>(),
        rounds in prop::collection::vec(round(), 1..24),
        jump in prop_oneof![1..4_u16, 1..30_000_u16],
    ) {
        let mut pair = Pair::new(1 << size_log2, start, event_idx);
        for round in &rounds {
            pair.round(round);
        }
        let everything = Round { take: 64, give: 64, ..rounds[0].clone() };
        pair.round(&everything);
        pair.jump(jump);
        for head in pair.taken.drain(..) {
            head.abandon();
        }
    }
}

#[test]
fn the_index_wraps_under_load() {
    let plan = ChainPlan {
        buffers: vec![(0, 16), (512, 4096), (16, 1)],
        readable: 1,
        direct: 0,
    };
    let round = Round {
        chains: vec![plan; 7],
        take: 7,
        give: 7,
        order: 0x1234_5678_9abc_def0,
        used_event: 3,
        no_interrupt: false,
        arm: true,
        suppress: true,
    };
    for event_idx in [false, true] {
        let mut pair = Pair::new(8, 0, event_idx);
        // Ten thousand rounds of seven: past 65536.
        for _ in 0..10_000 {
            pair.round(&round);
        }
        assert_eq!(pair.used_idx, (70_000_u32 % 65_536) as u16);
    }
}
