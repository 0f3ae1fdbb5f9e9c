//! The device side of a virtqueue, ours beside virtio-queue: take a block request, find its header,
//! data and status, answer it, return it.
//!
//! Both run over the same kind of memory with the same layout and do the same work: pop, walk, read
//! the type, write the status, push; one publication a batch. The driver's side is rewound between
//! batches and not measured. Figures are for one batch: divide by its size, printed as throughput.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pollux_dataplane::backend::{Backend, DiskOptions, Null};
use pollux_dataplane::blk::{Geometry, Ranges, parse};
use pollux_dataplane::driver::{Buffer, DriverMemory, SplitDriver};
use pollux_dataplane::mem::{Direction, Iova};
use pollux_dataplane::ring::{Chain, DeviceQueue, RingFeatures, SplitQueue};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const SIZE: u16 = 256;
const BATCHES: [u64; 3] = [1, 8, 64];

/// A driver with a batch of 4 KiB reads ready to be made available again and again.
struct Bench {
    memory: DriverMemory,
    driver: SplitDriver,
}

impl Bench {
    fn new(indirect: bool) -> Self {
        let mut memory = DriverMemory::new(4 << 20).expect("memory");
        let mut features = RingFeatures::EVENT_IDX;
        features.set(RingFeatures::INDIRECT_DESC, indirect);
        let driver = SplitDriver::new(&mut memory, SIZE, features);
        Self { memory, driver }
    }

    /// Makes `batch` reads available. Returns nothing: the device side finds them.
    fn fill(&mut self, requests: &[[Buffer; 3]]) {
        for buffers in requests {
            self.driver
                .add(&self.memory, buffers)
                .expect("room in the ring");
        }
        self.driver.publish();
    }

    fn drain(&mut self, batch: u64) {
        for _ in 0..batch {
            self.driver.poll().expect("a completion");
        }
    }

    fn requests(&mut self, batch: u64) -> Vec<[Buffer; 3]> {
        let buffer = |address, bytes, direction| Buffer {
            address,
            bytes,
            direction,
        };
        let request = |memory: &mut DriverMemory| {
            let header = memory.allocate(16, 16);
            let data = memory.allocate(4096, 4096);
            let status = memory.allocate(1, 1);
            [
                buffer(header, 16, Direction::Readable),
                buffer(data, 4096, Direction::Writable),
                buffer(status, 1, Direction::Writable),
            ]
        };
        (0..batch).map(|_| request(&mut self.memory)).collect()
    }
}

fn geometry() -> Geometry {
    let options = DiskOptions {
        size_bytes: 1 << 30,
        ..DiskOptions::default()
    };
    Null::new(&options, false)
        .expect("a null disk")
        .geometry()
        .clone()
}

fn ours(bench: &mut Bench, batch: u64, iterations: u64) -> Duration {
    let requests = bench.requests(batch);
    let table = bench.memory.table();
    let mut queue = SplitQueue::new(&bench.driver.config(), &table).expect("a queue");
    let geometry = geometry();
    let mut measured = Duration::ZERO;
    for _ in 0..iterations {
        bench.fill(&requests);
        let begun = Instant::now();
        let mut chain = Chain::new(&table);
        let mut ranges = Ranges::new();
        while let Some(head) = queue.take(&mut chain).expect("a sound ring") {
            let (status, _) = chain.last_writable().expect("a status");
            let request = parse(&mut chain, &mut ranges, &geometry).expect("a request");
            let written = request.read_bytes() as u32 + 1;
            black_box(&request);
            status.store_last(0);
            queue.push(head.done_whole(written));
        }
        queue.publish();
        measured += begun.elapsed();
        bench.drain(batch);
    }
    measured
}

fn theirs(bench: &mut Bench, batch: u64, iterations: u64) -> Duration {
    let requests = bench.requests(batch);
    let config = bench.driver.config();
    let table = bench.memory.table();
    let memory = mirror(bench);
    let mut queue = Queue::new(SIZE).expect("a queue");
    queue.set_size(SIZE);
    let address = |iova: Iova| GuestAddress(iova.0);
    queue
        .try_set_desc_table_address(address(config.descriptor_area))
        .expect("an address");
    queue
        .try_set_avail_ring_address(address(config.driver_area))
        .expect("an address");
    queue
        .try_set_used_ring_address(address(config.device_area))
        .expect("an address");
    queue.set_event_idx(true);
    queue.set_ready(true);
    let mut measured = Duration::ZERO;
    for _ in 0..iterations {
        bench.fill(&requests);
        let begun = Instant::now();
        while let Some(mut chain) = queue.pop_descriptor_chain(&memory) {
            let head = chain.head_index();
            let header = chain.next().expect("a header");
            let data = chain.next().expect("data");
            let status = chain.next().expect("a status");
            let kind: u32 = memory.read_obj(header.addr()).expect("a type");
            let sector: u64 = memory
                .read_obj(GuestAddress(header.addr().0 + 8))
                .expect("a sector");
            black_box((kind, sector, data.addr(), data.len()));
            memory.write_obj(0_u8, status.addr()).expect("a status");
            queue
                .add_used(&memory, head, data.len() + 1)
                .expect("a used element");
        }
        measured += begun.elapsed();
        bench.drain(batch);
    }
    drop(table);
    measured
}

/// Returns the driver's memory as virtio-queue wants it: the same pages at the same addresses.
fn mirror(bench: &Bench) -> GuestMemoryMmap<()> {
    let (file, first, bytes) = bench.memory.file().expect("a memory file");
    let range = (
        GuestAddress(first.0),
        bytes as usize,
        Some(vm_memory::FileOffset::new(file, 0)),
    );
    GuestMemoryMmap::from_ranges_with_files([range]).expect("memory")
}

fn ring(criterion: &mut Criterion) {
    for (layout, indirect) in [("direct", false), ("indirect", true)] {
        let mut group = criterion.benchmark_group(format!("split/{layout}"));
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch));
            let id = |who| BenchmarkId::new(who, batch);
            group.bench_function(id("pollux"), |b| {
                b.iter_custom(|iterations| ours(&mut Bench::new(indirect), batch, iterations));
            });
            group.bench_function(id("virtio-queue"), |b| {
                b.iter_custom(|iterations| theirs(&mut Bench::new(indirect), batch, iterations));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, ring);
criterion_main!(benches);
