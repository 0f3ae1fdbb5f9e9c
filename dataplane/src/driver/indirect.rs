//! Indirect descriptor tables (VIRTIO 1.3, 2.7.5.3 and 2.8.7): one a chain, each as large as the queue.

use super::DriverMemory;
use crate::mem::Iova;

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u64 = 16;

/// Memory for the indirect tables of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndirectTables {
    first: Iova,
    table_bytes: u64,
}

impl IndirectTables {
    /// Takes room for a queue of `size` entries out of `memory`.
    pub(super) fn new(memory: &mut DriverMemory, size: u16) -> Self {
        let entries = u64::from(size);
        let table_bytes = DESCRIPTOR_BYTES * entries;
        Self {
            first: memory.allocate(table_bytes * entries, DESCRIPTOR_BYTES),
            table_bytes,
        }
    }

    /// Writes `descriptors`, two little-endian words each, as the table of `chain`. Returns its address
    /// and length in bytes.
    ///
    /// # Panics
    ///
    /// When there are more than the queue has entries.
    pub(super) fn write(
        self,
        memory: &DriverMemory,
        chain: u16,
        descriptors: impl Iterator<Item = (u64, u64)>,
    ) -> (Iova, u32) {
        let start = self.first.0 + u64::from(chain) * self.table_bytes;
        let mut bytes = 0;
        for (address, rest) in descriptors {
            assert!(bytes < self.table_bytes, "a table as large as the queue");
            let words = u128::from(rest) << 64 | u128::from(address);
            memory.write(Iova(start + bytes), &words.to_le_bytes());
            bytes += DESCRIPTOR_BYTES;
        }
        (Iova(start), bytes as u32)
    }
}
