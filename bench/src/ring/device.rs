//! Our device side, as far as the ring and the request go.

use std::hint::black_box;

use pollux_dataplane::blk::{Geometry, Operation, Ranges, Request, parse};
use pollux_dataplane::mem::Translator;
use pollux_dataplane::ring::{Chain, DeviceQueue, InOrder, PackedQueue, RingFeatures, SplitQueue};

use super::fixture::{SIZE, geometry};
use super::{Fixture, Side};

/// Takes, parses, answers and returns.
#[derive(Debug)]
pub struct DeviceSide {
    translator: Translator,
    geometry: Geometry,
    queue: Queue,
}

#[derive(Debug)]
enum Queue {
    Split(SplitQueue),
    SplitInOrder(InOrder<SplitQueue>),
    Packed(PackedQueue),
    PackedInOrder(InOrder<PackedQueue>),
}

impl DeviceSide {
    /// Returns the device side of the queue of `fixture`.
    ///
    /// # Panics
    ///
    /// Never: the fixture's queue is a sound one.
    pub fn new(fixture: &Fixture) -> Self {
        let table = fixture.memory().table();
        let config = fixture.driver().config();
        let sound = "a sound queue";
        let features = fixture.shape().features;
        let packed = features.contains(RingFeatures::RING_PACKED);
        let in_order = features.contains(RingFeatures::IN_ORDER);
        let split = || SplitQueue::new(&config, &table).expect(sound);
        let queue = match (packed, in_order) {
            (false, false) => Queue::Split(split()),
            (false, true) => Queue::SplitInOrder(InOrder::new(split(), SIZE)),
            (true, false) => Queue::Packed(PackedQueue::new(&config, &table).expect(sound)),
            (true, true) => {
                let queue = PackedQueue::new(&config, &table).expect(sound);
                Queue::PackedInOrder(InOrder::new(queue, SIZE))
            }
        };
        Self {
            translator: Translator::new(table),
            geometry: geometry(),
            queue,
        }
    }
}

impl Side for DeviceSide {
    fn serve(&mut self) -> u64 {
        let (translator, geometry) = (&self.translator, &self.geometry);
        match &mut self.queue {
            Queue::Split(queue) => serve(queue, translator, geometry),
            Queue::SplitInOrder(queue) => serve(queue, translator, geometry),
            Queue::Packed(queue) => serve(queue, translator, geometry),
            Queue::PackedInOrder(queue) => serve(queue, translator, geometry),
        }
    }
}

#[inline(never)]
fn serve(queue: &mut impl DeviceQueue, translator: &Translator, geometry: &Geometry) -> u64 {
    let mut chain = Chain::new(translator);
    let mut ranges = Ranges::new();
    let mut served = 0;
    while let Some(head) = queue.take(&mut chain).expect("a sound ring") {
        let (status, _) = chain.last_writable().expect("a status");
        let request = parse(&mut chain, &mut ranges, geometry).expect("a request");
        let Request::Operation(Operation::Read { range, into }) = request else {
            unreachable!("only reads were made available");
        };
        black_box((range.first, into.as_ptr(), into.len()));
        status.store_last(0);
        queue.push(head.done_whole(range.bytes() as u32 + 1));
        served += 1;
    }
    queue.publish();
    served
}
