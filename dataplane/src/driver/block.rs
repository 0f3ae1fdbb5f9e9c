//! A virtio-blk driver over one queue: requests in, statuses and data out.

use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};

use super::{Buffer, DriverMemory, SplitDriver};
use crate::mem::{Direction, Iova};
use crate::ring::RingFeatures;

/// Bytes of a request header.
const HEADER_BYTES: u32 = 16;

/// A request that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// What [`BlockDriver::submit`] returned.
    pub ticket: u16,
    /// The status byte.
    pub status: u8,
    /// What the device says it wrote, in bytes.
    pub written: u32,
    /// The data buffer, as it is now.
    pub data: Vec<u8>,
}

/// Memory of one request.
#[derive(Clone, Copy, Debug)]
struct Slot {
    header: Iova,
    status: Iova,
    data: Iova,
    data_bytes: u32,
}

/// A driver that keeps up to a queue's worth of requests in flight.
#[derive(Debug)]
pub struct BlockDriver {
    memory: DriverMemory,
    /// The virtqueue, for what a well-behaved driver does not do.
    pub queue: SplitDriver,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// The slot in use by the chain at each head.
    slot_of_head: Vec<u16>,
}

impl BlockDriver {
    /// Returns a driver with a queue of `size` entries and room for `data_bytes_max` bytes of data in
    /// each request.
    ///
    /// # Errors
    ///
    /// When there is no memory to share.
    pub fn new(size: u16, data_bytes_max: u32, features: RingFeatures) -> std::io::Result<Self> {
        let entries = u64::from(size);
        let slot_bytes = u64::from(data_bytes_max) + 4096;
        let rings = 64 * entries + 16 * entries * entries + 4096;
        let mut memory = DriverMemory::new((rings + entries * slot_bytes).next_multiple_of(4096))?;
        let queue = SplitDriver::new(&mut memory, size, features);
        let slots = (0..size).map(|_| Slot {
            header: memory.allocate(u64::from(HEADER_BYTES), 16),
            status: memory.allocate(1, 1),
            data: memory.allocate(u64::from(data_bytes_max), 512),
            data_bytes: 0,
        });
        let slots = slots.collect();
        let free = (0..size).rev().collect();
        Ok(Self {
            memory,
            queue,
            slots,
            free,
            slot_of_head: vec![0; usize::from(size)],
        })
    }

    /// Returns the memory shared with the device.
    pub fn memory(&mut self) -> &mut DriverMemory {
        &mut self.memory
    }

    /// Adds a read of `bytes` bytes. See [`submit`](Self::submit).
    pub fn read(&mut self, sector: u64, bytes: u32) -> Option<u16> {
        self.submit(VIRTIO_BLK_T_IN, sector, &[], bytes)
    }

    /// Adds a write. See [`submit`](Self::submit).
    pub fn write(&mut self, sector: u64, data: &[u8]) -> Option<u16> {
        self.submit(VIRTIO_BLK_T_OUT, sector, data, 0)
    }

    /// Adds a request with `out` for the device to read and room for `in_bytes` bytes from it, not yet
    /// published. Returns its ticket, or `None` when the queue is full.
    pub fn submit(&mut self, kind: u32, sector: u64, out: &[u8], in_bytes: u32) -> Option<u16> {
        let ticket = *self.free.last()?;
        let slot = &mut self.slots[usize::from(ticket)];
        slot.data_bytes = in_bytes.max(out.len() as u32);
        let slot = *slot;
        let mut header = [0; HEADER_BYTES as usize];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        self.memory.write(slot.header, &header);
        self.memory.write(slot.data, out);
        // A value that no device writes, so that a missing status is seen.
        self.memory.write(slot.status, &[0xff]);
        let readable = |address, bytes| Buffer {
            address,
            bytes,
            direction: Direction::Readable,
        };
        let writable = |address, bytes| Buffer {
            address,
            bytes,
            direction: Direction::Writable,
        };
        let mut buffers = vec![readable(slot.header, HEADER_BYTES)];
        if !out.is_empty() {
            buffers.push(readable(slot.data, out.len() as u32));
        }
        if in_bytes > 0 {
            buffers.push(writable(slot.data, in_bytes));
        }
        buffers.push(writable(slot.status, 1));
        let head = self.queue.add(&self.memory, &buffers)?;
        self.slot_of_head[usize::from(head)] = ticket;
        self.free.pop();
        Some(ticket)
    }

    /// Takes the next request that the device completed.
    pub fn complete(&mut self) -> Option<Completed> {
        let used = self.queue.poll()?;
        let ticket = self.slot_of_head[usize::from(used.head)];
        let slot = self.slots[usize::from(ticket)];
        self.free.push(ticket);
        Some(Completed {
            ticket,
            status: self.memory.read(slot.status, 1)[0],
            written: used.written,
            data: self.memory.read(slot.data, slot.data_bytes as usize),
        })
    }
}
