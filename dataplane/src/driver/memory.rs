//! Memory that a driver shares with the device: a memfd with a bump allocator over it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::mem::{Access, Direction, Iova, Mapping, Region, RegionTable, Segment};

/// First address handed out. Not 0, so that a forgotten address is never valid by chance.
const BASE: Iova = Iova(0x10_0000);

/// A driver's memory, mapped once and visible to both sides at the same addresses.
#[derive(Debug)]
pub struct DriverMemory {
    file: OwnedFd,
    table: Arc<RegionTable>,
    next: u64,
    end: u64,
}

impl DriverMemory {
    /// Returns `bytes` bytes of zeroed memory.
    ///
    /// # Errors
    ///
    /// What memfd_create, ftruncate or mmap said.
    pub fn new(bytes: u64) -> std::io::Result<Self> {
        let file: OwnedFd = memfd_create("driver", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&file, bytes as i64)?;
        let mapping = Mapping::new(file.try_clone()?, 0, bytes, Access::ReadWrite);
        let mapping = Arc::new(mapping.map_err(std::io::Error::other)?);
        let last = Iova(BASE.0 + bytes - 1);
        let table = RegionTable::new(vec![Region {
            first: BASE,
            last,
            mapping,
        }]);
        let table = Arc::new(table.map_err(std::io::Error::other)?);
        Ok(Self {
            file,
            table,
            next: BASE.0,
            end: BASE.0 + bytes,
        })
    }

    /// Returns the address space as the device sees it.
    pub fn table(&self) -> Arc<RegionTable> {
        Arc::clone(&self.table)
    }

    /// Returns the file behind the memory, the address of its first byte and its length in bytes, for
    /// whoever maps it by other means.
    ///
    /// # Errors
    ///
    /// When the file cannot be duplicated.
    pub fn file(&self) -> std::io::Result<(std::fs::File, Iova, u64)> {
        Ok((self.file.try_clone()?.into(), BASE, self.end - BASE.0))
    }

    /// Returns the address of `bytes` fresh zero bytes, aligned to `align`.
    ///
    /// # Panics
    ///
    /// When the memory is used up: its user chose the size.
    pub fn allocate(&mut self, bytes: u64, align: u64) -> Iova {
        let start = self.next.next_multiple_of(align);
        assert!(
            start + bytes <= self.end,
            "{bytes} more bytes do not fit into the driver's memory"
        );
        self.next = start + bytes;
        Iova(start)
    }

    /// Takes everything allocated back and fills it with zeros. Nobody uses it any more.
    pub fn clear(&mut self) {
        self.at(BASE, self.next - BASE.0).zero();
        self.next = BASE.0;
    }

    /// Returns the memory at `iova`.
    ///
    /// # Panics
    ///
    /// When it was not allocated here.
    pub fn at(&self, iova: Iova, bytes: u64) -> Segment<'_> {
        self.table
            .segment(iova, bytes, Direction::Writable)
            .expect("an allocated address")
    }

    /// Writes `bytes` at `iova`.
    pub fn write(&self, iova: Iova, bytes: &[u8]) {
        self.at(iova, bytes.len() as u64).copy_from(bytes);
    }

    /// Returns a copy of `bytes` bytes at `iova`.
    pub fn read(&self, iova: Iova, bytes: usize) -> Vec<u8> {
        let mut copy = vec![0; bytes];
        self.at(iova, bytes as u64).copy_to(&mut copy);
        copy
    }
}
