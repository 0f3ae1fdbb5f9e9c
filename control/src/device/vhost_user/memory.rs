//! What a frontend shares of its memory, and which of its two addresses a byte of it has.

use std::fs::File;
use std::sync::Arc;

use pollux_dataplane::limits::REGIONS_MAX;
use pollux_dataplane::mem::{Access, Iova, Mapping, MappingError, Region, RegionTable, TableError};
use vhost::vhost_user::message::VhostUserMemoryRegion;

/// Why a frontend's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemoryError {
    /// mmap failed.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The regions make no sense.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Beyond what addresses there are.
    #[error("the memory region at {0:#x} is empty or ends beyond the last address")]
    Bounds(u64),
    /// None that was added.
    #[error("there is no memory region at {0:#x} to be removed")]
    Unknown(u64),
    /// Too many.
    #[error("more than {REGIONS_MAX} memory regions")]
    TooMany,
}

/// A part of it.
#[derive(Clone, Debug)]
struct Part {
    region: Region,
    /// Its first byte's address in the frontend, in which rings are named.
    user_address: u64,
    bytes: u64,
}

/// All that a frontend shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    parts: Vec<Part>,
    table: Arc<RegionTable>,
}

impl Memory {
    /// Returns the memory of `regions`, each in a file of its own.
    pub(super) fn new(
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
    ) -> Result<Self, MemoryError> {
        let parts = regions
            .iter()
            .zip(files)
            .map(|(it, file)| Part::map(it, file));
        Self::of(parts.collect::<Result<_, _>>()?)
    }

    fn of(parts: Vec<Part>) -> Result<Self, MemoryError> {
        let regions = parts.iter().map(|part| part.region.clone());
        let table = RegionTable::new(regions.collect())?;
        Ok(Self {
            parts,
            table: Arc::new(table),
        })
    }

    /// Returns this and `region`.
    pub(super) fn with(
        &self,
        region: &VhostUserMemoryRegion,
        file: File,
    ) -> Result<Self, MemoryError> {
        if self.parts.len() == REGIONS_MAX {
            return Err(MemoryError::TooMany);
        }
        let mut parts = self.parts.clone();
        parts.push(Part::map(region, file)?);
        Self::of(parts)
    }

    /// Returns this without `region`.
    pub(super) fn without(&self, region: &VhostUserMemoryRegion) -> Result<Self, MemoryError> {
        let address = region.guest_phys_addr;
        let is_it = |part: &Part| {
            part.region.first == Iova(address)
                && part.bytes == region.memory_size
                && part.user_address == region.user_addr
        };
        let place = self.parts.iter().position(is_it);
        let mut parts = self.parts.clone();
        parts.remove(place.ok_or(MemoryError::Unknown(address))?);
        Self::of(parts)
    }

    /// Returns it as workers use it: by the guest's addresses.
    pub(super) fn table(&self) -> Arc<RegionTable> {
        Arc::clone(&self.table)
    }

    /// Returns the guest's address of the byte at `user_address`; none where it is not shared.
    pub(super) fn guest_address(&self, user_address: u64) -> Option<Iova> {
        self.parts.iter().find_map(|part| {
            let offset = user_address.checked_sub(part.user_address)?;
            let is_in = offset < part.bytes;
            is_in.then(|| part.region.first.checked_add(offset))?
        })
    }
}

impl Part {
    fn map(region: &VhostUserMemoryRegion, file: File) -> Result<Self, MemoryError> {
        let VhostUserMemoryRegion {
            guest_phys_addr,
            memory_size,
            user_addr,
            mmap_offset,
        } = *region;
        let refuse = MemoryError::Bounds(guest_phys_addr);
        let first = Iova(guest_phys_addr);
        let last = memory_size
            .checked_sub(1)
            .and_then(|it| first.checked_add(it));
        let Some(last) = last else {
            return Err(refuse);
        };
        let mapping = Mapping::new(file.into(), mmap_offset, memory_size, Access::ReadWrite)?;
        Ok(Self {
            region: Region {
                first,
                last,
                mapping: Arc::new(mapping),
            },
            user_address: user_addr,
            bytes: memory_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    fn region(guest: u64, bytes: u64, user: u64) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion {
            guest_phys_addr: guest,
            memory_size: bytes,
            user_addr: user,
            mmap_offset: 0,
        }
    }

    #[test]
    fn rings_are_found_by_the_frontends_addresses() {
        let regions = [
            region(0, 0x4000, 0x7000_0000),
            region(0x10_0000, 0x2000, 0x8000_0000),
        ];
        let files = vec![file(0x4000), file(0x2000)];
        let memory = Memory::new(&regions, files).unwrap();
        assert_eq!(memory.guest_address(0x7000_3fff), Some(Iova(0x3fff)));
        assert_eq!(memory.guest_address(0x8000_1000), Some(Iova(0x10_1000)));
        assert_eq!(memory.guest_address(0x7000_4000), None);
        assert_eq!(memory.guest_address(0), None);
        assert_eq!(memory.table().regions().len(), 2);
    }

    #[test]
    fn regions_come_and_go() {
        let one = region(0, 0x1000, 0x1000);
        let two = region(0x1000, 0x1000, 0x5000);
        let memory = Memory::default().with(&one, file(0x1000)).unwrap();
        let both = memory.with(&two, file(0x1000)).unwrap();
        assert_eq!(both.guest_address(0x5000), Some(Iova(0x1000)));
        let rest = both.without(&one).unwrap();
        assert_eq!(rest.guest_address(0x1000), None);
        assert!(matches!(rest.without(&one), Err(MemoryError::Unknown(0))));
        let overlap = region(0x1800, 0x1000, 0x9000);
        assert!(both.with(&overlap, file(0x1000)).is_err());
    }

    #[test]
    fn regions_that_make_no_sense_are_refused() {
        for (guest, bytes) in [(0, 0), (u64::MAX, 2), (0, u64::MAX)] {
            let bad = Memory::default().with(&region(guest, bytes, 0), file(0x1000));
            assert!(bad.is_err(), "{guest:#x} with {bytes:#x} bytes");
        }
        let mut memory = Memory::default();
        for place in 0..REGIONS_MAX as u64 {
            memory = memory
                .with(&region(place << 12, 0x1000, 0), file(0x1000))
                .unwrap();
        }
        let more = memory.with(&region(1 << 40, 0x1000, 0), file(0x1000));
        assert!(matches!(more, Err(MemoryError::TooMany)));
    }
}
