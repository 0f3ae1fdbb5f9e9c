//! A driver with a batch of reads ready to be made available again and again.

use std::fs::File;

use pollux_dataplane::blk::Geometry;
use pollux_dataplane::driver::{Buffer, DriverMemory, QueueDriver};
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::RingFeatures;

/// Entries of the queue: what Linux asks of VDUSE.
pub(super) const SIZE: u16 = 256;
/// Bytes from one request of the driver's to the next: not a power of two, as in any real driver.
const REQUEST_BYTES: u64 = 576;
const SEGMENT_BYTES: u32 = 4096;
const MEMORY_BYTES: u64 = 16 << 20;

/// What the requests of a batch look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Format and features of the ring.
    pub features: RingFeatures,
    /// Requests that are made available together.
    pub batch: u16,
    /// Data segments of a request, 4 KiB each, beside its header and status.
    pub segments: u16,
}

/// A queue in memory of its own, and its driver.
#[derive(Debug)]
pub struct Fixture {
    shape: Shape,
    memory: DriverMemory,
    driver: QueueDriver,
    requests: Vec<Vec<Buffer>>,
}

impl Fixture {
    /// Returns a fixture for `shape`.
    ///
    /// # Panics
    ///
    /// When there is no memory, or a batch of that shape does not fit into the queue.
    pub fn new(shape: Shape) -> Self {
        let mut memory = DriverMemory::new(MEMORY_BYTES).expect("memory for a queue");
        let driver = QueueDriver::new(&mut memory, SIZE, shape.features);
        let data_bytes = u64::from(SEGMENT_BYTES) * u64::from(shape.segments);
        let data = memory.allocate(data_bytes, 4096);
        let requests = (0..shape.batch).map(|_| {
            // Header and status are close together, as Linux has them in a `struct virtblk_req` each.
            // Nobody touches the data, so all share it.
            let header = memory.allocate(REQUEST_BYTES, 64);
            let segment = |index: u16| {
                let offset = u64::from(index) * u64::from(SEGMENT_BYTES);
                Buffer::writable(Iova(data.0 + offset), SEGMENT_BYTES)
            };
            let mut buffers = vec![Buffer::readable(header, 16)];
            buffers.extend((0..shape.segments).map(segment));
            buffers.push(Buffer::writable(Iova(header.0 + 16), 1));
            buffers
        });
        let requests = requests.collect();
        Self {
            shape,
            memory,
            driver,
            requests,
        }
    }

    /// Returns what the requests look like.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn memory(&self) -> &DriverMemory {
        &self.memory
    }

    pub(super) fn driver(&self) -> &QueueDriver {
        &self.driver
    }

    /// Returns the file behind the memory, the address of its first byte and its length in bytes.
    pub(super) fn file(&self) -> (File, Iova, u64) {
        self.memory.file().expect("a descriptor for the memory")
    }

    /// Makes the batch available.
    pub(super) fn fill(&mut self) {
        for buffers in &self.requests {
            let added = self.driver.add(buffers);
            assert!(added.is_some(), "a batch fits into the ring");
        }
        self.driver.publish();
    }

    /// Takes the batch back.
    pub(super) fn drain(&mut self) {
        for _ in &self.requests {
            assert!(self.driver.poll().is_some(), "a batch comes back whole");
        }
    }
}

/// A null disk of 1 GiB with blocks of 512 bytes.
pub(super) fn geometry() -> Geometry {
    Geometry {
        capacity_sectors: 1 << 21,
        block_bytes: 512,
        physical_block_exponent: 3,
        optimal_io_blocks: 0,
        read_only: false,
        volatile_cache: true,
        discard_sectors_max: 0,
        write_zeroes_sectors_max: 0,
        write_zeroes_may_unmap: false,
        secure_erase_sectors_max: 0,
        serial: [0; 20],
    }
}
