//! A virtio-blk driver over one queue: requests in, statuses and data out.

use arrayvec::ArrayVec;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};

use super::{Buffer, DriverMemory, PackedDriver, QueueDriver, SplitDriver};
use crate::mem::Iova;
use crate::ring::RingFeatures;

/// Bytes of a request header.
const HEADER_BYTES: u32 = 16;

/// Buffers of a request: header, data out, data in, status.
const BUFFERS_MAX: usize = 4;

/// The end of a request, its data left where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What [`BlockDriver::submit`] returned.
    pub ticket: u16,
    /// The status byte.
    pub status: u8,
    /// What the device says it wrote, in bytes.
    pub written: u32,
}

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

/// A driver that keeps up to a queue's worth of requests in flight. Many can be submitted and then
/// published at once; neither that nor [`poll`](Self::poll) allocates.
#[derive(Debug)]
pub struct BlockDriver {
    memory: DriverMemory,
    /// The virtqueue: publication and notifications are its user's business.
    pub queue: QueueDriver,
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
    ///
    /// # Panics
    ///
    /// When `size` is no power of two.
    pub fn new(size: u16, data_bytes_max: u32, features: RingFeatures) -> std::io::Result<Self> {
        let entries = u64::from(size);
        let slot_bytes = u64::from(data_bytes_max) + 4096;
        let rings = 128 * entries + 16 * entries * entries + 4096;
        let mut memory = DriverMemory::new((rings + entries * slot_bytes).next_multiple_of(4096))?;
        let queue = QueueDriver::new(&mut memory, size, features);
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

    /// Returns the split virtqueue, for what a well-behaved driver does not do.
    ///
    /// # Panics
    ///
    /// When the queue is packed.
    pub fn split(&mut self) -> &mut SplitDriver {
        match &mut self.queue {
            QueueDriver::Split(queue) => queue,
            QueueDriver::Packed(_) => panic!("the queue is packed"),
        }
    }

    /// Returns the packed virtqueue, for what a well-behaved driver does not do.
    ///
    /// # Panics
    ///
    /// When the queue is split.
    pub fn packed(&mut self) -> &mut PackedDriver {
        match &mut self.queue {
            QueueDriver::Packed(queue) => queue,
            QueueDriver::Split(_) => panic!("the queue is split"),
        }
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
    /// published. Returns its ticket, below the size of the queue, or `None` when the queue is full.
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
        let mut buffers = ArrayVec::<Buffer, BUFFERS_MAX>::new();
        buffers.push(Buffer::readable(slot.header, HEADER_BYTES));
        if !out.is_empty() {
            buffers.push(Buffer::readable(slot.data, out.len() as u32));
        }
        if in_bytes > 0 {
            buffers.push(Buffer::writable(slot.data, in_bytes));
        }
        buffers.push(Buffer::writable(slot.status, 1));
        let head = self.queue.add(&buffers)?;
        self.slot_of_head[usize::from(head)] = ticket;
        self.free.pop();
        Some(ticket)
    }

    /// Takes the end of the next request that the device completed. Its data is what
    /// [`data`](Self::data) returns until another request is submitted.
    pub fn poll(&mut self) -> Option<Answer> {
        let used = self.queue.poll()?;
        let ticket = self.slot_of_head[usize::from(used.head)];
        self.free.push(ticket);
        let mut status = [0];
        let at = self.slots[usize::from(ticket)].status;
        self.memory.at(at, 1).copy_to(&mut status);
        Some(Answer {
            ticket,
            status: status[0],
            written: used.written,
        })
    }

    /// Returns a copy of the data buffer of `ticket`.
    pub fn data(&self, ticket: u16) -> Vec<u8> {
        let slot = self.slots[usize::from(ticket)];
        self.memory.read(slot.data, slot.data_bytes as usize)
    }

    /// Takes the next request that the device completed, with its data.
    pub fn complete(&mut self) -> Option<Completed> {
        let Answer {
            ticket,
            status,
            written,
        } = self.poll()?;
        let data = self.data(ticket);
        Some(Completed {
            ticket,
            status,
            written,
            data,
        })
    }
}
