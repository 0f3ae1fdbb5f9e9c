//! Memory that the device reads and writes: at which addresses it sees which.
//!
//! Addresses are ours to choose, since an IOMMU is in between. Memory of a driver is mapped once for all queues, as long
//! as one of them uses it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::mem::{
    Access, Direction, Iova, Mapping, Region, RegionTable, Segment, Shared, SharedArray,
    TranslateError,
};

/// Bytes of a page, of the device's and of PRP entries.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Addresses that are given out: above the 32 bits in which interrupts are raised by writes, and in as many bits as
/// every IOMMU takes.
const ADDRESSES: std::ops::Range<u64> = 1 << 32..1 << 38;
/// Where a mapping may begin, so that it can be made of huge pages.
const ALIGNMENT_BYTES: u64 = 2 << 20;

/// The way to a device that only its kind knows.
pub(super) trait Bus: Send + Sync + fmt::Debug {
    /// Lets the device use all of `mapping`, which begins with a page, from address `address` on.
    fn map(&self, address: u64, mapping: &Arc<Mapping>) -> std::io::Result<()>;

    /// Ends that. When it returns, the device cannot reach the memory any more.
    fn unmap(&self, address: u64, bytes: u64);

    /// Lets the device reach memory at all, or no more: whatever state it is in.
    fn set_master(&self, master: bool);

    /// Called again and again while something is awaited from the device.
    fn pause(&self);
}

/// The device's address space.
#[derive(Debug)]
pub(super) struct AddressSpace {
    bus: Box<dyn Bus>,
    /// What is mapped, by its first address.
    used: Mutex<BTreeMap<u64, Used>>,
}

#[derive(Debug)]
struct Used {
    mapping: Arc<Mapping>,
    users: usize,
}

impl Used {
    fn bytes(&self) -> u64 {
        self.mapping.len() as u64
    }
}

/// Memory that the device can reach, as long as one of its users holds this.
#[derive(Debug)]
pub(super) struct Mapped {
    space: Arc<AddressSpace>,
    mapping: Arc<Mapping>,
    address: u64,
}

impl AddressSpace {
    pub(super) fn new(bus: Box<dyn Bus>) -> Self {
        Self {
            bus,
            used: Mutex::default(),
        }
    }

    pub(super) fn bus(&self) -> &dyn Bus {
        &*self.bus
    }

    /// Maps `mapping`, once for all who ask for it.
    pub(super) fn map(self: &Arc<Self>, mapping: &Arc<Mapping>) -> std::io::Result<Mapped> {
        let mut used = self.used();
        let known = used
            .iter_mut()
            .find(|(_, used)| Arc::ptr_eq(&used.mapping, mapping));
        let address = match known {
            Some((address, used)) => {
                used.users += 1;
                *address
            }
            None => {
                let address = free(&used, mapping.len() as u64);
                let address = address.ok_or(std::io::ErrorKind::QuotaExceeded)?;
                self.bus.map(address, mapping)?;
                let mapping = Arc::clone(mapping);
                used.insert(address, Used { mapping, users: 1 });
                address
            }
        };
        Ok(Mapped {
            space: Arc::clone(self),
            mapping: Arc::clone(mapping),
            address,
        })
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<u64, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the first address from which on `bytes` bytes are not `used`.
fn free(used: &BTreeMap<u64, Used>, bytes: u64) -> Option<u64> {
    let mut free = ADDRESSES.start;
    for (first, used) in used {
        if free.checked_add(bytes)? <= *first {
            break;
        }
        free = (first + used.bytes()).next_multiple_of(ALIGNMENT_BYTES);
    }
    (free.checked_add(bytes)? <= ADDRESSES.end).then_some(free)
}

impl Mapped {
    /// Returns where the device sees the first byte.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Returns the memory.
    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut all = self.space.used();
        if let Some(used) = all.get_mut(&self.address) {
            used.users -= 1;
            if used.users == 0 {
                self.space.bus.unmap(self.address, used.bytes());
                all.remove(&self.address);
            }
        }
    }
}

/// Memory of our own that the device can reach: zeros at first.
#[derive(Debug)]
pub(super) struct DmaMemory {
    /// At the device's addresses.
    table: RegionTable,
    mapped: Mapped,
}

impl DmaMemory {
    /// Returns `bytes` bytes, a multiple of the page size.
    pub(super) fn new(space: &Arc<AddressSpace>, bytes: u64) -> std::io::Result<Self> {
        let file = memfd_create("pollux-dma", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&file, bytes as i64)?;
        let mapping = Mapping::new(file, 0, bytes, Access::ReadWrite);
        let mapped = space.map(&Arc::new(mapping.map_err(std::io::Error::other)?))?;
        let region = Region {
            first: Iova(mapped.address),
            last: Iova(mapped.address + bytes - 1),
            mapping: Arc::clone(&mapped.mapping),
        };
        let table = RegionTable::new(vec![region]).map_err(std::io::Error::other)?;
        Ok(Self { table, mapped })
    }

    /// Returns where the device sees byte `offset`.
    #[inline]
    pub(super) fn address(&self, offset: u64) -> u64 {
        self.mapped.address + offset
    }

    /// Returns the `bytes` bytes from `offset` on.
    #[inline]
    pub(super) fn segment(&self, offset: u64, bytes: u64) -> Result<Segment<'_>, TranslateError> {
        let at = Iova(self.address(offset));
        self.table.segment(at, bytes, Direction::Writable)
    }

    /// Returns the `count` elements from `offset` on, `count` a power of two.
    pub(super) fn array<S: Shared>(
        &self,
        offset: u64,
        count: u16,
    ) -> Result<SharedArray<S>, TranslateError> {
        let at = Iova(self.address(offset));
        self.table.array(at, count, Direction::Writable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nvme::model::Model;
    use crate::mem::testing::region;

    #[test]
    fn addresses_are_used_again() {
        let model = Model::new();
        let space = Arc::new(AddressSpace::new(Box::new(model.clone())));
        let memory = |bytes| DmaMemory::new(&space, bytes).expect("memory");
        let (first, second, third) = (memory(4096), memory(3 << 20), memory(4096));
        let starts = [&first, &second, &third].map(|memory| memory.address(0) - (1 << 32));
        assert_eq!(starts, [0, 2 << 20, 6 << 20]);
        drop(second);
        assert_eq!(memory(4 << 20).address(0), (1 << 32) + (2 << 20));
        assert_eq!(memory(5 << 20).address(0), (1 << 32) + (8 << 20));
        drop((first, third));
        assert_eq!(model.mapped(), 0);
    }

    #[test]
    fn memory_of_a_driver_is_mapped_once() {
        let model = Model::new();
        let space = Arc::new(AddressSpace::new(Box::new(model.clone())));
        let (one, other) = (region(0, 4096).mapping, region(0, 4096).mapping);
        let first = space.map(&one).expect("a mapping");
        let again = space.map(&one).expect("a mapping");
        assert_eq!(first.address(), again.address());
        assert_ne!(first.address(), space.map(&other).expect("one").address());
        drop(first);
        assert_eq!(model.mapped(), 1);
        drop(again);
        assert_eq!(model.mapped(), 0);
    }
}
