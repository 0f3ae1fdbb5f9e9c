//! A worker's passes allocate nothing, whatever is behind them.
//!
//! # Safety
//!
//! Every call is handed on as it came, to the allocator of the system.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use pollux_dataplane::backend::{
    Backend, Delay, DiskOptions, FileDisk, FileOptions, Latencies, Latency, Null, Ram, RamMemory,
    RingOptions,
};
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::inflight::InFlightLog;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::stats::{LatencyRecorder, QueueCounters};
use pollux_dataplane::worker::{Poller, QueueSetup, Records};

/// Counts what the thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has nothing to be counted any more.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: see the module's header.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above; it came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PATIENCE: Duration = Duration::from_secs(30);

const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Returns one range of a discard or zero request, and another.
fn ranges() -> Vec<u8> {
    let range =
        |first: u64, count: u32| [&first.to_le_bytes()[..], &count.to_le_bytes(), &[0; 4]].concat();
    [range(0, 8), range(64, 8)].concat()
}

/// Serves batches of every kind of request over `backend`. Returns how often passes asked the allocator for anything.
fn asked_by_passes(backend: &impl Backend, features: RingFeatures) -> u64 {
    let mut driver = BlockDriver::new(64, 8192, features).unwrap();
    let setup = QueueSetup {
        queue: driver.queue.config(),
        table: driver.memory().table(),
        write_through: false,
    };
    let mut queue = backend.open_queue().unwrap();
    let geometry = backend.geometry().clone();
    let log = InFlightLog::anonymous(1, 64).unwrap();
    let mut log = log.queue(0).unwrap();
    let mut poller = Poller::new(&setup).unwrap();
    poller.begin(&mut log);
    let counters = QueueCounters::default();
    let mut latency = LatencyRecorder::new(quanta::Clock::new(), NonZeroU32::MIN);
    let (two, data) = (ranges(), vec![7; 8192]);
    let mut asked = 0;
    for batch in 0..50 {
        let mut pending = 0;
        let mut submit = |ticket: Option<u16>| pending += u32::from(ticket.is_some());
        for sector in 0..6 {
            submit(driver.write(sector * 16, &data));
            submit(driver.read(sector * 16, 4096));
        }
        submit(driver.submit(FLUSH, 0, &[], 0));
        submit(driver.submit(GET_ID, 0, &[], 20));
        submit(driver.submit(DISCARD, 0, &two, 0));
        submit(driver.submit(WRITE_ZEROES, 0, &two[..16], 0));
        // Beyond the end: an error.
        submit(driver.read(1 << 40, 512));
        assert!(pending > 10, "{pending}");
        driver.queue.publish();
        let end = Instant::now() + PATIENCE;
        while pending > 0 {
            let mut records = Records {
                in_flight: Some(&mut log),
                counters: &counters,
                latency: &mut latency,
            };
            let before = ASKED.get();
            poller.poll_once(&mut queue, &geometry, &mut records);
            // The first batch may bring a thread's own storage into being.
            asked += if batch > 0 { ASKED.get() - before } else { 0 };
            while driver.poll().is_some() {
                pending -= 1;
            }
            assert!(Instant::now() < end, "{pending} requests do not end");
        }
    }
    assert!(counters.requests.get() > 500);
    asked
}

fn all_formats(backend: &impl Backend) {
    let some = RingFeatures::EVENT_IDX | RingFeatures::INDIRECT_DESC;
    for features in [
        RingFeatures::empty(),
        some,
        some | RingFeatures::RING_PACKED,
        some | RingFeatures::RING_PACKED | RingFeatures::IN_ORDER,
    ] {
        assert_eq!(asked_by_passes(backend, features), 0, "{features:?}");
    }
}

fn disk() -> DiskOptions {
    DiskOptions {
        size_bytes: 1 << 20,
        ..DiskOptions::default()
    }
}

#[test]
fn the_count_counts() {
    let before = ASKED.get();
    drop(Box::new(before));
    assert_eq!(ASKED.get(), before + 2);
}

#[test]
fn memory_is_served_without() {
    all_formats(&Null::new(&disk(), true).unwrap());
    all_formats(&Ram::new(&disk(), &RamMemory::Sparse, false).unwrap());
}

#[test]
fn what_is_held_is_served_without() {
    let ram = Ram::new(&disk(), &RamMemory::Sparse, false).unwrap();
    let latency = Latency::For(Duration::from_micros(100));
    let latencies = Latencies {
        read: latency,
        write: latency,
        seed: None,
    };
    all_formats(&Delay::new(ram, latencies));
}

#[test]
fn a_file_is_served_without() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for direct in [true, false] {
        let options = FileOptions {
            path: folder.path().join("disk"),
            is_block: false,
            size_bytes: Some(1 << 20),
            block_bytes: None,
            read_only: false,
            direct,
            serial: String::new(),
            fallback_serial: String::new(),
            ring: RingOptions::default(),
        };
        all_formats(&FileDisk::new(&options).unwrap());
    }
}
