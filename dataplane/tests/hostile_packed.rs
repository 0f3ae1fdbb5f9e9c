//! Drivers that break the rules of packed virtqueues: each breaks its own queue, and nothing else.

mod common;
mod deferred;

use common::{Rig, ram};
use deferred::Deferred;
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::mem::{Iova, TranslateError};
use pollux_dataplane::ring::{DriverFault, RingFeatures};
use pollux_dataplane::worker::PollMode;

const SIZE: u16 = 16;
const IO_ERROR: u8 = 1;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Offsets into memory that a test's descriptors point to: a header of zeros, which is a read of sector 0;
/// data; a status; a table.
const HEADER: u64 = 0;
const DATA: u64 = 512;
const STATUS: u64 = 1024;
const TABLE: u64 = 2048;
const MEMORY_BYTES: u64 = 4096;

fn packed(rest: RingFeatures) -> BlockDriver {
    let features = RingFeatures::RING_PACKED | RingFeatures::EVENT_IDX | rest;
    BlockDriver::new(SIZE, 4096, features).unwrap()
}

/// A queue with raw descriptors: offset or address, length, id, flags. Returns the memory they point to.
fn hostile(rest: RingFeatures, descriptors: &[(u64, u32, u16, u16)]) -> (Rig, Iova) {
    let mut rig = Rig::new(&ram(), PollMode::Busy, packed(rest));
    let memory = rig.driver.memory().allocate(MEMORY_BYTES, 4096);
    offer(&mut rig, memory, descriptors);
    (rig, memory)
}

fn offer(rig: &mut Rig, memory: Iova, descriptors: &[(u64, u32, u16, u16)]) {
    for &(address, bytes, id, flags) in descriptors {
        let offset = if address < MEMORY_BYTES { memory.0 } else { 0 };
        let address = Iova(address.wrapping_add(offset));
        rig.driver
            .packed()
            .add_descriptor(address, bytes, id, flags);
    }
    rig.publish();
}

fn fault(rig: &Rig) -> DriverFault {
    rig.until("the fault", |rig| rig.worker.fault.load().is_some());
    rig.worker.fault.load().unwrap()
}

fn status(rig: &mut Rig, memory: Iova) -> u8 {
    rig.driver.memory().read(Iova(memory.0 + STATUS), 1)[0]
}

/// A read by hand, under the buffer id 3.
const READ: [(u64, u32, u16, u16); 3] = [
    (HEADER, 16, 0, NEXT),
    (DATA, 512, 0, NEXT | WRITE),
    (STATUS, 1, 3, WRITE),
];

#[test]
fn a_read_by_hand_is_answered_under_the_id_of_its_last_descriptor() {
    let (mut rig, memory) = hostile(RingFeatures::empty(), &READ);
    rig.until("the answer", |rig| rig.worker.counters.requests.get() == 1);
    let used = rig.driver.queue.poll().unwrap();
    assert_eq!((used.head, used.written), (3, 513));
    assert_eq!(status(&mut rig, memory), 0);
    rig.end();
}

#[test]
fn a_chain_around_the_ring_breaks_the_queue() {
    let (rig, _) = hostile(
        RingFeatures::empty(),
        &[(HEADER, 16, 0, NEXT); SIZE as usize],
    );
    assert_eq!(fault(&rig), DriverFault::ChainTooLong(SIZE.into()));
    rig.end();
}

#[test]
fn an_id_outside_of_the_ring_breaks_the_queue() {
    let (rig, _) = hostile(RingFeatures::empty(), &[(STATUS, 1, SIZE, WRITE)]);
    let expected = DriverFault::HeadOutOfRange {
        head: SIZE,
        size: SIZE,
    };
    assert_eq!(fault(&rig), expected);
    rig.end();
}

#[test]
fn an_id_in_flight_breaks_the_queue_and_the_first_chain_goes_on() {
    for rest in [RingFeatures::empty(), RingFeatures::IN_ORDER] {
        let backend = Deferred::new(8, false);
        let mut rig = Rig::new(&backend, PollMode::Busy, packed(rest));
        let memory = rig.driver.memory().allocate(MEMORY_BYTES, 4096);
        offer(&mut rig, memory, &READ);
        backend.await_pending(1);
        offer(&mut rig, memory, &READ);
        assert_eq!(fault(&rig), DriverFault::HeadInFlight(3));
        assert_eq!(backend.pending(), 1);
        backend.finish(0);
        rig.until("the answer", |rig| rig.worker.counters.requests.get() == 1);
        assert_eq!(status(&mut rig, memory), 0);
        rig.end();
    }
}

#[test]
fn a_bad_buffer_is_answered_with_an_error() {
    for (address, bytes) in [(0xdead_0000_0000, 512), (u64::MAX - 1, 512)] {
        let chain = [READ[0], (address, bytes, 0, NEXT | WRITE), READ[2]];
        let (mut rig, memory) = hostile(RingFeatures::empty(), &chain);
        let unmapped = TranslateError::Unmapped {
            iova: Iova(address),
            bytes: bytes.into(),
        };
        assert_eq!(fault(&rig), DriverFault::Address(unmapped));
        rig.until("the answer", |rig| rig.worker.counters.requests.get() == 1);
        assert_eq!(status(&mut rig, memory), IO_ERROR);
        let used = rig.driver.queue.poll().unwrap();
        assert_eq!((used.head, used.written), (3, 1));
        rig.end();
    }
}

#[test]
fn a_chain_without_a_header_or_a_status_breaks_the_queue() {
    for (chain, expected) in [
        (vec![READ[2]], DriverFault::HeaderShort(0)),
        (vec![(HEADER, 16, 3, 0)], DriverFault::StatusMissing),
        (
            vec![(DATA, 1, 0, NEXT | WRITE), (HEADER, 16, 3, 0)],
            DriverFault::ReadableAfterWritable,
        ),
    ] {
        let (rig, _) = hostile(RingFeatures::empty(), &chain);
        assert_eq!(fault(&rig), expected);
        rig.end();
    }
}

#[test]
fn indirect_tables_are_held_to_the_rules() {
    let (rig, _) = hostile(RingFeatures::empty(), &[(TABLE, 48, 3, INDIRECT)]);
    assert_eq!(fault(&rig), DriverFault::IndirectNotNegotiated);
    rig.end();

    let last = (STATUS, 1, 3, WRITE);
    for (chain, expected) in [
        (
            vec![(TABLE, 0, 3, INDIRECT)],
            DriverFault::IndirectLength(0),
        ),
        (
            vec![(TABLE, 24, 3, INDIRECT)],
            DriverFault::IndirectLength(24),
        ),
        // 2.8.19: no table in a list.
        (
            vec![(TABLE, 48, 0, INDIRECT | NEXT), last],
            DriverFault::IndirectNested,
        ),
    ] {
        let (rig, _) = hostile(RingFeatures::INDIRECT_DESC, &chain);
        assert_eq!(fault(&rig), expected);
        rig.end();
    }
}

#[test]
fn a_broken_queue_answers_every_later_request_with_an_error_until_it_is_reset() {
    let (mut rig, _) = hostile(RingFeatures::empty(), &[(STATUS, 1, 9, WRITE)]);
    assert_eq!(fault(&rig), DriverFault::HeaderShort(0));
    rig.until("the answer", |rig| rig.worker.counters.requests.get() == 1);
    assert_eq!(rig.driver.queue.poll().map(|used| used.head), Some(9));
    for _ in 0..20 {
        assert_eq!(rig.read(0, 512).status, IO_ERROR);
    }
    rig.stop();
    rig.driver = packed(RingFeatures::empty());
    rig.start();
    assert_eq!(rig.worker.fault.load(), None);
    assert_eq!(rig.read(0, 512).status, 0);
    rig.end();
}
