//! The same work with the crate `virtio-queue`, as its documentation shows.

use std::fmt;
use std::hint::black_box;

use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::RingFeatures;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use super::fixture::SIZE;
use super::{Fixture, Side};

/// virtio-queue over the memory of a fixture: the same pages at the same addresses.
pub struct ReferenceSide {
    memory: GuestMemoryMmap<()>,
    queue: Queue,
}

impl fmt::Debug for ReferenceSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReferenceSide").finish_non_exhaustive()
    }
}

impl ReferenceSide {
    /// Returns the reference for the queue of `fixture`; `None` for a packed one, which it does not have.
    ///
    /// # Panics
    ///
    /// Never: the fixture's queue is a sound one.
    pub fn new(fixture: &Fixture) -> Option<Self> {
        let features = fixture.shape().features;
        if features.intersects(RingFeatures::RING_PACKED | RingFeatures::IN_ORDER) {
            return None;
        }
        let config = fixture.driver().config();
        let (file, first, bytes) = fixture.file();
        let file = FileOffset::new(file, 0);
        let range = (GuestAddress(first.0), bytes as usize, Some(file));
        let sound = "a sound queue";
        let mut queue = Queue::new(SIZE).expect(sound);
        let address = |iova: Iova| GuestAddress(iova.0);
        queue
            .try_set_desc_table_address(address(config.descriptor_area))
            .expect(sound);
        queue
            .try_set_avail_ring_address(address(config.driver_area))
            .expect(sound);
        queue
            .try_set_used_ring_address(address(config.device_area))
            .expect(sound);
        queue.set_event_idx(features.contains(RingFeatures::EVENT_IDX));
        queue.set_ready(true);
        Some(Self {
            memory: GuestMemoryMmap::from_ranges_with_files([range]).expect("the same memory"),
            queue,
        })
    }
}

impl Side for ReferenceSide {
    #[inline(never)]
    fn serve(&mut self) -> u64 {
        let mut served = 0;
        while let Some(mut chain) = self.queue.pop_descriptor_chain(&self.memory) {
            let head = chain.head_index();
            let header = chain.next().expect("a header");
            // Type and sector, with one read.
            let header: [u64; 2] = self.memory.read_obj(header.addr()).expect("a header");
            let mut data_bytes = 0;
            let mut last = chain.next().expect("data");
            for next in chain {
                data_bytes += last.len();
                last = next;
            }
            black_box((header, data_bytes));
            self.memory.write_obj(0_u8, last.addr()).expect("a status");
            self.queue
                .add_used(&self.memory, head, data_bytes + 1)
                .expect("a used element");
            served += 1;
        }
        served
    }
}
