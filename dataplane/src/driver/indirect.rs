//! Indirect descriptor tables (VIRTIO 1.3, 2.7.5.3 and 2.8.7): one a chain, each as large as the queue.

use std::sync::atomic::{AtomicU64, Ordering};

use super::DriverMemory;
use crate::mem::{Direction, Iova, SharedArray};

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u64 = 16;
/// Bytes between two tables: at multiples of a page all would fall into the same few sets of a cache.
const GAP_BYTES: u64 = 64;

/// Memory for the indirect tables of a queue.
#[derive(Debug)]
pub(super) struct IndirectTables {
    size: u16,
    /// One a chain: where it is and its descriptors.
    tables: Vec<(Iova, SharedArray<[AtomicU64; 2]>)>,
}

impl IndirectTables {
    /// Takes room for a queue of `size` entries out of `memory`.
    ///
    /// # Panics
    ///
    /// When `memory` is too small.
    pub(super) fn new(memory: &mut DriverMemory, size: u16) -> Self {
        let shared = memory.table();
        let table = |_| {
            let bytes = DESCRIPTOR_BYTES * u64::from(size);
            let start = memory.allocate(bytes + GAP_BYTES, DESCRIPTOR_BYTES);
            let table = shared.array(start, size, Direction::Writable);
            (start, table.expect("table memory was just allocated"))
        };
        Self {
            size,
            tables: (0..size).map(table).collect(),
        }
    }

    /// Writes `descriptors`, two little-endian words each, as the table of `chain`. Returns its address
    /// and length in bytes.
    ///
    /// # Panics
    ///
    /// When there are more than the queue has entries.
    #[inline]
    pub(super) fn write(
        &self,
        chain: u16,
        descriptors: impl Iterator<Item = (u64, u64)>,
    ) -> (Iova, u32) {
        let (start, table) = &self.tables[usize::from(chain)];
        let mut count = 0;
        for (address, rest) in descriptors {
            assert!(count < self.size, "a table as large as the queue");
            let descriptor = table.at(count);
            descriptor[0].store(address, Ordering::Relaxed);
            descriptor[1].store(rest, Ordering::Relaxed);
            count += 1;
        }
        (*start, u32::from(count) * DESCRIPTOR_BYTES as u32)
    }
}
