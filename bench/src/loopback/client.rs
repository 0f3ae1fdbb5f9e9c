//! A polling driver with requests that are ready: what is left is a header, a chain and an entry of the ring.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use pollux_dataplane::driver::{Buffer, DriverMemory, QueueDriver};
use pollux_dataplane::mem::{Direction, Iova, RegionTable, SharedCell};
use pollux_dataplane::ring::{QueueConfig, RingFeatures};
use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
use vmm_sys_util::eventfd::EventFd;

use crate::load::{Completed, Requests};
use crate::scenario::Access;

/// Bytes from one request of the driver's to the next: not a power of two, as in any real driver.
const REQUEST_BYTES: u64 = 576;
/// Where the status lies: close to the header, as Linux has them in a `struct virtblk_req`.
const STATUS_OFFSET: u64 = 16;
/// A value that no device writes, so that a missing status is seen.
const NO_STATUS: u8 = 0xff;
/// Chains after which the device is told again not to interrupt: indexes come round.
const QUIET_CHAINS: u32 = 1 << 14;

/// What a client is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientShape {
    /// Format and features of the ring.
    pub(crate) features: RingFeatures,
    /// Entries of the ring.
    pub(crate) queue_size: u16,
    /// Requests that it has room for.
    pub(crate) requests: u16,
    /// Bytes of a request.
    pub(crate) block_bytes: u32,
    /// Bytes of the disk.
    pub(crate) disk_bytes: u64,
    /// What it asks for.
    pub(crate) access: Access,
}

/// A driver over one queue.
#[derive(Debug)]
pub(crate) struct Client {
    memory: DriverMemory,
    queue: QueueDriver,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// The slot in use by the chain at each head.
    slot_of_head: Vec<u16>,
    blocks: Blocks,
    unquieted: u32,
    kick: Option<EventFd>,
}

/// The memory of one request.
#[derive(Debug)]
struct Slot {
    /// Type and sector, two little-endian words.
    header: SharedCell<[AtomicU64; 2]>,
    status: SharedCell<AtomicU8>,
    read: [Buffer; 3],
    write: [Buffer; 3],
    started: u64,
}

impl Client {
    /// Returns a client with nothing in flight.
    ///
    /// # Errors
    ///
    /// When there is no memory to share.
    pub(crate) fn new(shape: &ClientShape) -> io::Result<Self> {
        let entries = u64::from(shape.queue_size);
        let rings = 64 * entries + (16 * entries + 64) * entries + 4096;
        let slot_bytes = REQUEST_BYTES + u64::from(shape.block_bytes) + 4096;
        let bytes = rings + u64::from(shape.requests) * slot_bytes + 4096;
        let mut memory = DriverMemory::new(bytes.next_multiple_of(4096))?;
        let queue = QueueDriver::new(&mut memory, shape.queue_size, shape.features);
        queue.suppress_interrupts();
        let data_bytes = u64::from(shape.block_bytes);
        let mut slots = Vec::with_capacity(usize::from(shape.requests));
        for _ in 0..shape.requests {
            let request = memory.allocate(REQUEST_BYTES, 64);
            let data = memory.allocate(data_bytes, 4096);
            slots.push(Slot::new(&memory, request, data, shape.block_bytes)?);
        }
        Ok(Self {
            memory,
            queue,
            slots,
            free: (0..shape.requests).rev().collect(),
            slot_of_head: vec![0; usize::from(shape.queue_size)],
            blocks: Blocks::new(shape),
            unquieted: 0,
            kick: None,
        })
    }

    /// Returns what the device needs to know of the queue.
    pub(crate) fn config(&self) -> QueueConfig {
        self.queue.config()
    }

    /// Returns the memory as the device sees it.
    pub(crate) fn table(&self) -> Arc<RegionTable> {
        self.memory.table()
    }

    /// Returns the file behind the memory, the address of its first byte and its length in bytes.
    pub(crate) fn file(&self) -> io::Result<(File, Iova, u64)> {
        self.memory.file()
    }

    /// Has the device kicked through `kick` where it wants that; without, it must poll.
    pub(crate) fn kick_through(&mut self, kick: EventFd) {
        self.kick = Some(kick);
    }
}

impl Slot {
    fn new(memory: &DriverMemory, request: Iova, data: Iova, bytes: u32) -> io::Result<Self> {
        let table = memory.table();
        let status = Iova(request.0 + STATUS_OFFSET);
        let both = Direction::Writable;
        let header = Buffer::readable(request, STATUS_OFFSET as u32);
        let ending = Buffer::writable(status, 1);
        Ok(Self {
            header: table.cell(request, both).map_err(io::Error::other)?,
            status: table.cell(status, both).map_err(io::Error::other)?,
            read: [header, Buffer::writable(data, bytes), ending],
            write: [header, Buffer::readable(data, bytes), ending],
            started: 0,
        })
    }
}

impl Requests for Client {
    #[inline]
    fn submit(&mut self, started: u64) -> bool {
        let Some(&index) = self.free.last() else {
            return false;
        };
        let slot = &mut self.slots[usize::from(index)];
        let (kind, sector) = self.blocks.next();
        slot.started = started;
        // The upper half is reserved.
        slot.header[0].store(u64::from(kind), Ordering::Relaxed);
        slot.header[1].store(sector, Ordering::Relaxed);
        slot.status.store(NO_STATUS, Ordering::Relaxed);
        let buffers = match kind {
            VIRTIO_BLK_T_IN => &slot.read,
            _ => &slot.write,
        };
        let Some(head) = self.queue.add(buffers) else {
            return false;
        };
        self.slot_of_head[usize::from(head)] = index;
        self.free.pop();
        true
    }

    #[inline]
    fn publish(&mut self) {
        self.queue.publish();
        if let Some(kick) = &self.kick
            && self.queue.kick_wanted()
        {
            // It fails where nobody has read 2^64 kicks.
            let _ = kick.write(1);
        }
    }

    #[inline]
    fn reap(&mut self, completed: &mut Completed) {
        while let Some(used) = self.queue.poll() {
            let index = self.slot_of_head[usize::from(used.head)];
            let slot = &self.slots[usize::from(index)];
            let is_error = slot.status.load(Ordering::Relaxed) != 0;
            completed.add(slot.started, is_error);
            self.free.push(index);
            self.unquieted += 1;
        }
        if self.unquieted >= QUIET_CHAINS {
            self.unquieted = 0;
            self.queue.suppress_interrupts();
        }
    }
}

/// Which blocks are asked for.
#[derive(Debug)]
struct Blocks {
    access: Access,
    block_sectors: u64,
    blocks: u64,
    next: u64,
    random: u64,
}

impl Blocks {
    fn new(shape: &ClientShape) -> Self {
        Self {
            access: shape.access,
            block_sectors: u64::from(shape.block_bytes) / 512,
            blocks: (shape.disk_bytes / u64::from(shape.block_bytes)).max(1),
            next: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Returns the type of the next request and its sector.
    #[inline]
    fn next(&mut self) -> (u32, u64) {
        let random = self.random();
        let block = if self.access.random {
            // The upper half of a product instead of a division.
            ((u128::from(random) * u128::from(self.blocks)) >> 64) as u64
        } else {
            let block = self.next;
            self.next = if block + 1 == self.blocks {
                0
            } else {
                block + 1
            };
            block
        };
        // The lowest bits decide on nothing else.
        let reads = random % 100 < u64::from(self.access.read_percent);
        let kind = if reads {
            VIRTIO_BLK_T_IN
        } else {
            VIRTIO_BLK_T_OUT
        };
        (kind, block * self.block_sectors)
    }

    /// xorshift64.
    #[inline]
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(random: bool, read_percent: u32) -> Blocks {
        Blocks::new(&ClientShape {
            features: RingFeatures::empty(),
            queue_size: 16,
            requests: 4,
            block_bytes: 4096,
            disk_bytes: 10 * 4096,
            access: Access {
                random,
                read_percent,
            },
        })
    }

    #[test]
    fn every_block_is_asked_for_and_none_beyond_the_disk() {
        for random in [true, false] {
            let mut blocks = blocks(random, 100);
            let sectors: Vec<u64> = (0..1000).map(|_| blocks.next().1).collect();
            assert!(sectors.iter().all(|it| it.is_multiple_of(8) && *it < 80));
            for block in 0..10 {
                let times = sectors.iter().filter(|&&it| it == block * 8).count();
                assert!(times.abs_diff(100) < 50, "block {block}: {times} times");
                assert!(random || sectors[block as usize] == block * 8);
            }
        }
    }

    #[test]
    fn as_many_requests_are_reads_as_asked_for() {
        for read_percent in [0, 30, 100] {
            let mut blocks = blocks(true, read_percent);
            let reads = (0..10_000).filter(|_| blocks.next().0 == VIRTIO_BLK_T_IN);
            let share = reads.count() / 100;
            assert!(share.abs_diff(read_percent as usize) <= 2, "{share} %");
        }
    }

    #[test]
    fn requests_stop_where_there_is_no_room() {
        for features in [
            RingFeatures::empty(),
            RingFeatures::RING_PACKED | RingFeatures::INDIRECT_DESC,
        ] {
            let mut shape = ClientShape {
                features,
                queue_size: 16,
                requests: 4,
                block_bytes: 1 << 20,
                disk_bytes: 1 << 30,
                access: Access {
                    random: true,
                    read_percent: 50,
                },
            };
            let mut client = Client::new(&shape).unwrap();
            assert_eq!((0..10).filter(|_| client.submit(7)).count(), 4);
            // Three descriptors a request, where they are in the ring.
            shape.requests = 16;
            let mut client = Client::new(&shape).unwrap();
            let room = if features.is_empty() { 5 } else { 16 };
            assert_eq!((0..20).filter(|_| client.submit(7)).count(), room);
            client.publish();
            let mut completed = Completed::default();
            client.reap(&mut completed);
            assert_eq!(completed.requests(), 0, "nobody serves the queue");
        }
    }
}
