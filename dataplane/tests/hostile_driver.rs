//! Drivers that break the rules: each breaks its own queue, and nothing else.

mod common;

use std::sync::Arc;

use common::{Rig, ram, thread};
use nix::sys::memfd::{MFdFlags, memfd_create};
use pollux_dataplane::driver::{BlockDriver, Buffer};
use pollux_dataplane::mem::{
    Access, Direction, Iova, Mapping, Region, RegionTable, TranslateError,
};
use pollux_dataplane::ring::{DriverFault, RingFeatures};
use pollux_dataplane::worker::{Command, PollMode, QueueSetup, SharedThread};

const IO_ERROR: u8 = 1;
const NEXT: u64 = 1 << 32;
const WRITE: u64 = 2 << 32;
const INDIRECT: u64 = 4 << 32;

/// A chain made of raw descriptors, starting with descriptor 0.
fn hostile(descriptors: &[(u64, u64)]) -> (Rig, Iova) {
    let driver = BlockDriver::new(16, 4096, RingFeatures::EVENT_IDX).unwrap();
    let mut rig = Rig::new(&ram(), PollMode::Busy, driver);
    let scratch = rig.driver.memory().allocate(4096, 4096);
    rig.driver.memory().write(scratch, &[0xff; 4096]);
    rig.driver.memory().write(scratch, &[0; 16]);
    for (index, &(address, rest)) in (0..).zip(descriptors) {
        // Small addresses are offsets into memory of the driver's.
        let address = if address < 4096 {
            scratch.0 + address
        } else {
            address
        };
        rig.driver.split().write_descriptor(index, address, rest);
    }
    rig.driver.split().make_available(0);
    rig.driver.queue.publish();
    (rig, scratch)
}

fn fault(rig: &Rig) -> DriverFault {
    rig.until("the fault", |rig| rig.worker.fault.load().is_some());
    rig.worker.fault.load().unwrap()
}

fn next(index: u64) -> u64 {
    NEXT | index << 48
}

#[test]
fn a_loop_breaks_the_queue() {
    let (rig, _) = hostile(&[(0, 16 | next(1)), (16, 512 | next(1))]);
    assert_eq!(fault(&rig), DriverFault::ChainTooLong(16));
    rig.end();
}

#[test]
fn an_index_outside_of_the_ring_breaks_the_queue() {
    let (rig, _) = hostile(&[(0, 16 | next(16))]);
    assert_eq!(
        fault(&rig),
        DriverFault::NextOutOfRange { next: 16, size: 16 }
    );
    rig.end();

    let (mut rig, _) = hostile(&[(0, 16 | next(1)), (512, 1 | WRITE)]);
    rig.until("a first request", |rig| {
        rig.worker.counters.requests.get() == 1
    });
    rig.driver.split().make_available(16);
    rig.driver.queue.publish();
    assert_eq!(
        fault(&rig),
        DriverFault::HeadOutOfRange { head: 16, size: 16 }
    );
    rig.end();

    let (mut rig, _) = hostile(&[(0, 16 | next(1)), (512, 1 | WRITE)]);
    rig.until("a first request", |rig| {
        rig.worker.counters.requests.get() == 1
    });
    rig.driver.split().write_avail_idx(1000);
    assert_eq!(
        fault(&rig),
        DriverFault::AvailIndex {
            from: 1,
            to: 1000,
            size: 16
        }
    );
    rig.end();
}

#[test]
fn an_address_outside_of_memory_is_answered_with_an_error() {
    for (address, bytes) in [
        (0xdead_0000_0000, 512),
        (u64::MAX, 512),
        (u64::MAX - 511, 512),
    ] {
        let chain = [
            (0, 16 | next(1)),
            (address, bytes | WRITE | next(2)),
            (512, 1 | WRITE),
        ];
        let (mut rig, scratch) = hostile(&chain);
        let unmapped = TranslateError::Unmapped {
            iova: Iova(address),
            bytes,
        };
        assert_eq!(fault(&rig), DriverFault::Address(unmapped));
        assert_eq!(
            rig.driver.memory().read(Iova(scratch.0 + 512), 1),
            [IO_ERROR]
        );
        rig.end();
    }
}

#[test]
fn a_header_that_is_empty_short_or_writable_breaks_the_queue() {
    let (mut rig, scratch) = hostile(&[(0, next(1)), (512, 1 | WRITE)]);
    assert_eq!(fault(&rig), DriverFault::EmptyBuffer(scratch));
    assert_eq!(
        rig.driver.memory().read(Iova(scratch.0 + 512), 1),
        [IO_ERROR]
    );
    rig.end();

    let (mut rig, scratch) = hostile(&[(0, 16 | WRITE | next(1)), (512, 1 | WRITE)]);
    assert_eq!(fault(&rig), DriverFault::HeaderShort(0));
    assert_eq!(
        rig.driver.memory().read(Iova(scratch.0 + 512), 1),
        [IO_ERROR]
    );
    rig.end();

    let (rig, _) = hostile(&[(0, 15 | next(1)), (512, 1 | WRITE)]);
    assert_eq!(fault(&rig), DriverFault::HeaderShort(15));
    rig.end();
}

#[test]
fn a_chain_without_a_status_cannot_be_answered() {
    let (rig, _) = hostile(&[(0, 16 | next(1)), (16, 512)]);
    assert_eq!(fault(&rig), DriverFault::StatusMissing);
    rig.end();

    let (rig, _) = hostile(&[(512, 1 | WRITE | next(1)), (0, 16)]);
    assert_eq!(fault(&rig), DriverFault::ReadableAfterWritable);
    rig.end();
}

#[test]
fn indirect_tables_are_held_to_the_rules() {
    let (rig, _) = hostile(&[(0, 32 | INDIRECT)]);
    assert_eq!(fault(&rig), DriverFault::IndirectNotNegotiated);
    rig.end();

    for (rest, expected) in [
        (INDIRECT, DriverFault::IndirectLength(0)),
        (24 | INDIRECT, DriverFault::IndirectLength(24)),
        (32 | INDIRECT | next(1), DriverFault::IndirectNested),
        // The scratch memory is 0xff: a descriptor with every flag.
        (4080 | INDIRECT, DriverFault::IndirectNested),
    ] {
        let driver = BlockDriver::new(
            16,
            4096,
            RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
        )
        .unwrap();
        let mut rig = Rig::new(&ram(), PollMode::Busy, driver);
        let scratch = rig.driver.memory().allocate(4096, 4096);
        rig.driver.memory().write(scratch, &[0xff; 4096]);
        rig.driver.split().write_descriptor(0, scratch.0, rest);
        rig.driver.split().make_available(0);
        rig.driver.queue.publish();
        assert_eq!(fault(&rig), expected);
        rig.end();
    }
}

#[test]
fn a_broken_queue_answers_every_later_request_with_an_error() {
    let (mut rig, _) = hostile(&[(0, 15 | next(1)), (512, 1 | WRITE)]);
    fault(&rig);
    // Descriptor 0 is used up by the hostile chain; the driver's own bookkeeping starts there too.
    assert!(rig.driver.queue.poll().is_some());
    for _ in 0..20 {
        assert_eq!(rig.read(0, 512).status, IO_ERROR);
    }
    rig.end();
}

#[test]
fn another_queue_goes_on() {
    let mut good = Rig::ram(PollMode::Busy);
    let (bad, _) = hostile(&[(0, 16 | next(1)), (16, 512 | next(1))]);
    fault(&bad);
    assert_eq!(good.read(0, 512).status, 0);
    assert_eq!(good.worker.fault.load(), None);
    bad.end();
    good.end();
}

#[test]
fn a_reset_mends_the_queue() {
    let (mut rig, _) = hostile(&[(0, 16 | next(16))]);
    fault(&rig);
    rig.stop();
    rig.driver = BlockDriver::new(
        16,
        4096,
        RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
    )
    .unwrap();
    rig.start();
    assert_eq!(rig.worker.fault.load(), None);
    assert_eq!(rig.read(0, 512).status, 0);
    rig.end();
}

#[test]
fn a_header_on_a_missing_page_does_not_reach_the_disk() {
    let driver = BlockDriver::new(16, 4096, RingFeatures::EVENT_IDX).unwrap();
    header_on_a_missing_page(Rig::new(&ram(), PollMode::Busy, driver));
}

#[test]
fn a_missing_page_is_the_fault_of_its_own_queue_on_a_thread_of_many() {
    let driver = || BlockDriver::new(16, 4096, RingFeatures::EVENT_IDX).unwrap();
    let thread = SharedThread::spawn(thread(PollMode::Busy)).unwrap();
    let before = Rig::on(&thread, &ram(), driver());
    let broken = Rig::on(&thread, &ram(), driver());
    let mut after = Rig::on(&thread, &ram(), driver());
    header_on_a_missing_page(broken);
    assert_eq!(after.read(0, 512).status, 0);
    for rig in [before, after] {
        assert_eq!(rig.worker.fault.load(), None);
        rig.end();
    }
}

/// The type of the request is there; the sector and what follows is behind the end of the file.
fn header_on_a_missing_page(mut rig: Rig) {
    assert_eq!(rig.write(0, &[7; 512]), 0);
    rig.stop();

    let file = memfd_create("short", MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&file, 0x1000).unwrap();
    let header = 0xff8;
    nix::sys::uio::pwrite(&file, &1_u64.to_le_bytes(), header).unwrap();
    let mapping = Mapping::new(file, 0, 0x2000, Access::ReadWrite).unwrap();
    let far = 1 << 32;
    let short = Region {
        first: Iova(far),
        last: Iova(far + 0x1fff),
        mapping: Arc::new(mapping),
    };
    rig.driver = BlockDriver::new(16, 4096, RingFeatures::EVENT_IDX).unwrap();
    let mut regions = rig.driver.memory().table().regions().to_vec();
    regions.push(short);
    let table = Arc::new(RegionTable::new(regions).unwrap());
    let status = rig.driver.memory().allocate(1, 1);
    let data = rig.driver.memory().allocate(512, 512);
    for (index, (address, rest)) in [
        (far + header as u64, 16 | next(1)),
        (data.0, 512 | next(2)),
        (status.0, 1 | WRITE),
    ]
    .into_iter()
    .enumerate()
    {
        rig.driver
            .split()
            .write_descriptor(index as u16, address, rest);
    }
    rig.driver.split().make_available(0);
    rig.driver.queue.publish();
    let queue = rig.driver.queue.config();
    rig.ask(Command::Start(Box::new(QueueSetup {
        queue,
        table,
        write_through: false,
    })));
    assert_eq!(fault(&rig), DriverFault::MemoryMissing);
    rig.until("the answer", |rig| rig.worker.counters.requests.get() == 2);
    assert_eq!(rig.driver.memory().read(status, 1), [IO_ERROR]);

    rig.stop();
    rig.driver = BlockDriver::new(16, 4096, RingFeatures::EVENT_IDX).unwrap();
    rig.start();
    assert_eq!(rig.read(0, 512).data, [7; 512]);
    rig.end();
}

#[test]
fn more_buffers_than_a_queue_holds_are_refused_by_the_driver_side() {
    let mut driver = BlockDriver::new(4, 4096, RingFeatures::EVENT_IDX).unwrap();
    let address = driver.memory().allocate(16, 16);
    let buffer = Buffer {
        address,
        bytes: 16,
        direction: Direction::Readable,
    };
    assert_eq!(driver.queue.add(&[buffer; 5]), None);
}
