//! A split virtqueue from the driver's side (VIRTIO 1.3, 2.7), which checks nothing.

use super::SharedMemory;

/// Entries of every queue.
pub(crate) const SIZE: u16 = 16;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// VIRTIO_BLK_T_IN and VIRTIO_BLK_T_OUT.
pub(crate) const IN: u32 = 0;
pub(crate) const OUT: u32 = 1;

/// VIRTIO_BLK_T_SECURE_ERASE.
pub(crate) const SECURE_ERASE: u32 = 14;

/// Parts of a queue's memory.
const QUEUE_BYTES: u64 = 0x1_0000;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADER: u64 = 0x3000;
const STATUS: u64 = 0x3800;
const DATA: u64 = 0x4000;

/// What the status byte is before the device writes it.
const UNANSWERED: u8 = 0xee;

/// A descriptor as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) bytes: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

/// A queue and the one request that it has at a time.
#[derive(Debug)]
pub(crate) struct Queue {
    index: u16,
    /// Of the memory, in the device's address space.
    base: u64,
    /// Of the queue, in the memory.
    offset: u64,
    next_avail: u16,
    next_used: u16,
}

impl Queue {
    /// Lays out queue `index` in `memory`, which the device has at `base`.
    pub(crate) fn new(index: u16, base: u64, memory: &SharedMemory) -> Self {
        let offset = u64::from(index) * QUEUE_BYTES;
        assert!(offset + QUEUE_BYTES <= memory.bytes());
        let (next_avail, next_used) = (0, 0);
        Self {
            index,
            base,
            offset,
            next_avail,
            next_used,
        }
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// Returns where descriptors, avail ring and used ring are.
    pub(crate) fn areas(&self) -> [u64; 3] {
        [0, AVAIL, USED].map(|part| self.base + self.offset + part)
    }

    /// Returns where the header, the data and the status of a request go.
    pub(crate) fn buffers(&self) -> [u64; 3] {
        [HEADER, DATA, STATUS].map(|part| self.base + self.offset + part)
    }

    /// Writes descriptor `place`.
    pub(crate) fn describe(&self, memory: &SharedMemory, place: u16, descriptor: Descriptor) {
        let Descriptor {
            address,
            bytes,
            flags,
            next,
        } = descriptor;
        let mut written = [0; 16];
        written[..8].copy_from_slice(&address.to_le_bytes());
        written[8..12].copy_from_slice(&bytes.to_le_bytes());
        written[12..14].copy_from_slice(&flags.to_le_bytes());
        written[14..].copy_from_slice(&next.to_le_bytes());
        memory.write(self.offset + 16 * u64::from(place), &written);
    }

    /// Puts `head` into the avail ring.
    pub(crate) fn offer(&mut self, memory: &SharedMemory, head: u16) {
        let slot = u64::from(self.next_avail % SIZE);
        memory.write(self.offset + AVAIL + 4 + 2 * slot, &head.to_le_bytes());
        self.next_avail = self.next_avail.wrapping_add(1);
    }

    /// Publishes what was offered.
    pub(crate) fn publish(&self, memory: &SharedMemory) {
        memory.publish(self.offset + AVAIL + 2, self.next_avail);
    }

    /// Has the avail index be ahead by `entries` more.
    pub(crate) fn jump(&mut self, entries: u16) {
        self.next_avail = self.next_avail.wrapping_add(entries);
    }

    /// Writes a header.
    pub(crate) fn write_header(&self, memory: &SharedMemory, kind: u32, sector: u64) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        memory.write(self.offset + HEADER, &header);
        memory.write(self.offset + STATUS, &[UNANSWERED]);
    }

    /// Offers a request with `data`, as long as it is: read for anything but a read.
    pub(crate) fn prepare(&mut self, memory: &SharedMemory, kind: u32, sector: u64, data: &[u8]) {
        self.write_header(memory, kind, sector);
        memory.write(self.offset + DATA, data);
        let [header, payload, status] = self.buffers();
        let bytes = data.len() as u32;
        let is_read_by_device = kind == OUT || kind == SECURE_ERASE;
        let direction = if is_read_by_device { 0 } else { WRITE };
        let chain = [
            (header, 16, NEXT),
            (payload, bytes, NEXT | direction),
            (status, 1, WRITE),
        ];
        for (place, (address, bytes, flags)) in (0..).zip(chain) {
            let next = place + 1;
            let descriptor = Descriptor {
                address,
                bytes,
                flags,
                next,
            };
            self.describe(memory, place, descriptor);
        }
        self.offer(memory, 0);
    }

    /// Returns the status of the request, if it has been returned, and its data.
    pub(crate) fn answer(&mut self, memory: &SharedMemory, data: &mut [u8]) -> Option<u8> {
        if memory.load(self.offset + USED + 2) == self.next_used {
            return None;
        }
        self.next_used = self.next_used.wrapping_add(1);
        memory.read(self.offset + DATA, data);
        Some(self.status(memory))
    }

    /// Returns the status byte as it is now.
    pub(crate) fn status(&self, memory: &SharedMemory) -> u8 {
        let mut status = [0];
        memory.read(self.offset + STATUS, &mut status);
        status[0]
    }
}
