//! A worker thread against a well-behaved driver: data, modes, notifications, stopping.

mod common;

use std::time::Duration;

use common::{DISK_BYTES, Rig, at, options, pattern, ram};
use pollux_dataplane::backend::{DiskOptions, Null};
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::{Answer, Command, PollMode};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_SECURE_ERASE,
    VIRTIO_BLK_T_WRITE_ZEROES,
};

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

const MODES: [PollMode; 3] = [
    PollMode::Busy,
    PollMode::Adaptive(Duration::from_micros(50)),
    PollMode::Event,
];

/// One entry of a DISCARD or WRITE_ZEROES request.
fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [
        &sector.to_le_bytes()[..],
        &sectors.to_le_bytes(),
        &flags.to_le_bytes(),
    ]
    .concat()
}

#[test]
fn what_is_written_is_read_back_in_every_mode_and_layout() {
    for mode in MODES {
        for features in [
            RingFeatures::empty(),
            RingFeatures::INDIRECT_DESC,
            RingFeatures::EVENT_IDX,
            RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
        ] {
            let driver = BlockDriver::new(16, 1 << 14, features).unwrap();
            let mut rig = Rig::new(&ram(), mode, driver);
            // More requests than the index has room for in its low byte, so that the ring wraps.
            for round in 0..100 {
                let sector = round * 7 % 1024;
                let data = pattern(round, 4096);
                assert_eq!(rig.write(sector, &data), OK);
                let read = rig.read(sector, 4096);
                assert_eq!((read.status, read.written), (OK, 4097));
                assert!(read.data == data, "round {round} in {mode:?}");
            }
            rig.end();
        }
    }
}

#[test]
fn a_full_queue_completes_every_request_once() {
    let mut rig = Rig::ram(PollMode::Busy);
    for round in 0..50 {
        let mut waiting = std::collections::BTreeSet::new();
        while let Some(ticket) = rig.driver.read(round, 512) {
            assert!(waiting.insert(ticket));
        }
        assert_eq!(waiting.len(), 64);
        rig.publish();
        while !waiting.is_empty() {
            let completed = rig.wait();
            assert_eq!(completed.status, OK);
            assert!(waiting.remove(&completed.ticket), "completed twice");
        }
    }
    assert_eq!(rig.worker.counters.requests.get(), 50 * 64);
    rig.end();
}

#[test]
fn requests_outside_of_the_disk_or_the_protocol_are_refused() {
    let mut rig = Rig::ram(PollMode::Busy);
    let last = DISK_BYTES / 512 - 1;
    assert_eq!(rig.read(last, 512).status, OK);
    assert_eq!(rig.read(last, 1024).status, IO_ERROR);
    assert_eq!(rig.read(u64::MAX, 512).status, IO_ERROR);
    assert_eq!(rig.write(last + 1, &[0; 512]), IO_ERROR);
    assert_eq!(rig.read(0, 500).status, IO_ERROR, "not a whole sector");
    assert_eq!(rig.request(4711, 0, &[], 0).status, UNSUPPORTED);
    assert_eq!(rig.request(VIRTIO_BLK_T_FLUSH, 0, &[], 0).status, OK);
    // None of this breaks the queue.
    assert_eq!(rig.worker.fault.load(), None);
    assert_eq!(rig.worker.counters.errors.get(), 5);
    rig.end();
}

#[test]
fn the_serial_is_padded_to_twenty_bytes() {
    let mut rig = Rig::ram(PollMode::Busy);
    let id = rig.request(VIRTIO_BLK_T_GET_ID, 0, &[], 20);
    assert_eq!(
        (id.status, &id.data[..]),
        (OK, &b"serial-of-the-test\0\0"[..])
    );
    rig.end();
}

#[test]
fn discard_write_zeroes_and_secure_erase_leave_zeros() {
    let mut rig = Rig::ram(PollMode::Busy);
    for (kind, flags) in [
        (VIRTIO_BLK_T_DISCARD, 0),
        (VIRTIO_BLK_T_SECURE_ERASE, 0),
        (VIRTIO_BLK_T_WRITE_ZEROES, 0),
        (VIRTIO_BLK_T_WRITE_ZEROES, 1),
    ] {
        let data = pattern(1, 1 << 14);
        assert_eq!(rig.write(8, &data), OK);
        let two = [range(16, 8, flags), range(32, 3, flags)];
        if kind != VIRTIO_BLK_T_WRITE_ZEROES {
            assert_eq!(rig.request(kind, 0, &two.concat(), 0).status, OK);
        } else {
            let both = rig.request(kind, 0, &two.concat(), 0).status;
            assert_eq!(both, IO_ERROR, "one range a request is advertised");
            for one in two {
                assert_eq!(rig.request(kind, 0, &one, 0).status, OK);
            }
        }
        let mut expected = data;
        expected[8 * 512..16 * 512].fill(0);
        expected[24 * 512..27 * 512].fill(0);
        assert!(
            rig.read(8, 1 << 14).data == expected,
            "kind {kind} flags {flags}"
        );
    }
    let end = DISK_BYTES / 512;
    assert_eq!(
        rig.request(VIRTIO_BLK_T_DISCARD, 0, &range(end, 1, 0), 0)
            .status,
        IO_ERROR
    );
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_SECURE_ERASE] {
        let flagged = rig.request(kind, 0, &range(0, 1, 1), 0);
        assert_eq!(flagged.status, UNSUPPORTED);
    }
    assert_eq!(
        rig.request(VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, 0)[1..], 0)
            .status,
        IO_ERROR
    );
    rig.end();
}

#[test]
fn a_disk_of_large_blocks_refuses_parts_of_them_and_a_read_only_one_writes() {
    let large = DiskOptions {
        block_bytes: 4096,
        ..options()
    };
    let backend = pollux_dataplane::backend::Ram::new(
        &large,
        &pollux_dataplane::backend::RamMemory::Sparse,
        false,
    )
    .unwrap();
    let driver = BlockDriver::new(
        16,
        1 << 14,
        RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
    )
    .unwrap();
    let mut rig = Rig::new(&backend, PollMode::Busy, driver);
    assert_eq!(rig.write(8, &[1; 4096]), OK);
    assert_eq!(rig.write(1, &[1; 4096]), IO_ERROR);
    assert_eq!(rig.write(8, &[1; 512]), IO_ERROR);
    // Unaligned discards arrive from Linux: only whole blocks inside of them go.
    assert_eq!(
        rig.request(VIRTIO_BLK_T_DISCARD, 0, &range(9, 14, 0), 0)
            .status,
        OK
    );
    assert_eq!(rig.read(8, 4096).data, [1; 4096]);
    rig.end();

    let read_only = DiskOptions {
        read_only: true,
        ..options()
    };
    let backend = pollux_dataplane::backend::Ram::new(
        &read_only,
        &pollux_dataplane::backend::RamMemory::Sparse,
        false,
    )
    .unwrap();
    let driver = BlockDriver::new(
        16,
        1 << 14,
        RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
    )
    .unwrap();
    let mut rig = Rig::new(&backend, PollMode::Busy, driver);
    assert_eq!(rig.write(0, &[1; 512]), IO_ERROR);
    let zeroes = range(0, 1, 0);
    assert_eq!(
        rig.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &zeroes, 0).status,
        IO_ERROR
    );
    assert_eq!(rig.read(0, 512).status, OK);
    rig.end();
}

#[test]
fn null_reads_zeros_unless_told_to_leave_the_buffer() {
    for (fill, expected) in [(true, 0), (false, 7)] {
        let backend = Null::new(&options(), fill).unwrap();
        let driver = BlockDriver::new(16, 1 << 14, RingFeatures::EVENT_IDX).unwrap();
        let mut rig = Rig::new(&backend, PollMode::Busy, driver);
        // The driver puts requests into the same memory again and again.
        assert_eq!(rig.write(0, &[7; 4096]), OK);
        assert!(rig.read(0, 4096).data.iter().all(|&byte| byte == expected));
        rig.end();
    }
}

#[test]
fn a_polling_worker_is_not_kicked_and_interrupts_only_who_asks() {
    let mut rig = Rig::ram(PollMode::Busy);
    rig.driver.queue.suppress_interrupts();
    for sector in 0..200 {
        rig.driver.read(sector, 512).unwrap();
        rig.driver.queue.publish();
        assert!(
            !rig.driver.queue.kick_wanted(),
            "a polling device asked for a kick"
        );
        rig.wait();
    }
    assert_eq!(rig.wires.interrupts(), 0);
    for sector in 0..10 {
        rig.driver.queue.request_interrupt();
        rig.driver.read(sector, 512).unwrap();
        rig.driver.read(sector, 512).unwrap();
        rig.publish();
        rig.wait();
        rig.wait();
        rig.until("the interrupt", |rig| rig.wires.interrupts() > sector);
    }
    assert_eq!(
        rig.wires.interrupts(),
        10,
        "one for each two requests published together"
    );
    assert_eq!(rig.worker.counters.kicks.get(), 0);
    rig.end();
}

#[test]
fn a_sleeping_worker_is_woken_by_each_kick() {
    let mut rig = Rig::ram(PollMode::Event);
    for sector in 0..200 {
        let slept = rig.worker.counters.sleeps.get();
        rig.read(sector, 512);
        rig.until("sleep", |rig| rig.worker.counters.sleeps.get() > slept);
    }
    assert!(rig.worker.counters.kicks.get() > 0);
    rig.end();
}

#[test]
fn a_stopped_queue_is_left_alone_and_goes_on_where_it_was() {
    let mut rig = Rig::ram(PollMode::Busy);
    for sector in 0..5 {
        rig.read(sector, 512);
    }
    assert_eq!(rig.stop().state, at(5));
    rig.driver.read(0, 512).unwrap();
    rig.publish();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(rig.driver.complete(), None, "a stopped queue was served");
    let queue = pollux_dataplane::ring::QueueConfig {
        next_avail: 5,
        ..rig.driver.queue.config()
    };
    let table = rig.driver.memory().table();
    let setup = pollux_dataplane::worker::QueueSetup {
        queue,
        table,
        write_through: false,
    };
    let answer = rig.ask(Command::Start(Box::new(setup)));
    assert!(matches!(answer, Answer::Started(Ok(_))));
    assert_eq!(rig.wait().status, OK);
    rig.end();
}

#[test]
fn a_paused_queue_is_left_alone_and_goes_on_with_the_next_memory() {
    let mut rig = Rig::ram(PollMode::Busy);
    for sector in 0..5 {
        rig.read(sector, 512);
    }
    let Answer::Stopped(report) = rig.ask(Command::Pause) else {
        panic!("not paused")
    };
    assert_eq!(report.state, at(5));
    rig.driver.read(0, 512).unwrap();
    rig.publish();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(rig.driver.complete(), None, "a paused queue was served");
    let table = rig.driver.memory().table();
    let resumed = rig.ask(Command::Remap(table.clone()));
    assert!(matches!(resumed, Answer::Started(Ok(state)) if Some(state) == at(5)));
    assert_eq!(rig.wait().status, OK);
    // What rests is forgotten with the rest.
    rig.ask(Command::Pause);
    assert_eq!(rig.stop().state, at(6));
    let nothing = rig.ask(Command::Remap(table));
    assert!(matches!(nothing, Answer::Started(Ok(state)) if Some(state) == at(0)));
    rig.end();
}

#[test]
fn a_queue_that_another_worker_left_is_recovered_without_being_served() {
    let mut rig = Rig::ram(PollMode::Busy);
    for sector in 0..5 {
        rig.read(sector, 512);
    }
    rig.ask(Command::Pause);
    rig.driver.read(0, 512).unwrap();
    rig.publish();
    // A worker knows nothing of the queue that it is given.
    let queue = rig.driver.queue.config();
    let table = rig.driver.memory().table();
    let setup = pollux_dataplane::worker::QueueSetup {
        queue,
        table: table.clone(),
        write_through: false,
    };
    let recovered = rig.ask(Command::Recover(Box::new(setup)));
    assert!(matches!(recovered, Answer::Started(Ok(state)) if Some(state) == at(5)));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(rig.driver.complete(), None, "a paused queue was served");
    rig.ask(Command::Remap(table));
    assert_eq!(rig.wait().status, OK);
    rig.end();
}

#[test]
fn remapping_under_load_loses_nothing() {
    let mut rig = Rig::ram(PollMode::Busy);
    for sector in 0..100 {
        while rig.driver.read(sector, 512).is_some() {}
        rig.publish();
        let table = rig.driver.memory().table();
        assert!(matches!(
            rig.ask(Command::Remap(table)),
            Answer::Started(Ok(_))
        ));
        for _ in 0..64 {
            assert_eq!(rig.wait().status, OK);
        }
    }
    rig.end();
}

#[test]
fn a_queue_that_was_started_in_no_memory_is_served_once_it_is_mapped() {
    let mut rig = Rig::ram(PollMode::Busy);
    rig.stop();
    let queue = rig.driver.queue.config();
    let table = Default::default();
    let setup = pollux_dataplane::worker::QueueSetup {
        queue,
        table,
        write_through: false,
    };
    let refused = rig.ask(Command::Start(Box::new(setup)));
    assert!(matches!(refused, Answer::Started(Err(_))), "{refused:?}");
    rig.driver.read(0, 512).unwrap();
    rig.publish();
    let table = rig.driver.memory().table();
    let mapped = rig.ask(Command::Remap(table));
    assert!(
        matches!(mapped, Answer::Started(Ok(state)) if Some(state) == at(0)),
        "{mapped:?}"
    );
    assert_eq!(rig.wait().status, OK);
    rig.end();
}

#[test]
fn latencies_are_handed_over_on_request() {
    let mut rig = Rig::ram(PollMode::Busy);
    for sector in 0..10 {
        rig.read(sector, 512);
    }
    let empty = || Box::new(pollux_dataplane::stats::new_histogram());
    let Answer::Latency {
        histogram: latency, ..
    } = rig.ask(Command::Latency(empty()))
    else {
        panic!()
    };
    assert_eq!(latency.len(), 10);
    let Answer::Latency {
        histogram: latency, ..
    } = rig.ask(Command::Latency(empty()))
    else {
        panic!()
    };
    assert_eq!(latency.len(), 0);
    rig.end();
}
