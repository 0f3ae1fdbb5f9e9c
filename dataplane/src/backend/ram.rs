//! A disk in memory: a sparse memfd, or a file that outlives the process, mapped once.
//!
//! The mapping reaches as far as the disk may ever grow, since what lies beyond the end of a file costs nothing but
//! addresses: a disk is resized by its file alone, and queues go on with the memory that they have.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{FileOffset, MmapRegion};

use super::memory_disk::resized;
use super::{Backend, BackendQueue, DiskError, DiskOptions, Outcome, Submission, Token};
use crate::blk::{Data, Geometry, Operation, SECTOR_BYTES, SectorRange};
use crate::mem::{Segment, leave_out_of_core_dumps};

/// Where the memory of a ram disk comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RamMemory {
    /// Taken as it is written.
    Sparse,
    /// All at once from the huge page pool.
    HugePages,
    /// This file, made as long as the disk if it is new or empty.
    File(PathBuf),
}

/// The ram backend.
#[derive(Debug)]
pub struct Ram {
    geometry: Geometry,
    memory: RamMemory,
    /// All memory is taken before it is used, and kept.
    prealloc: bool,
    disk: Arc<Disk>,
}

/// A queue of the ram backend. All queues see the same bytes.
#[derive(Debug)]
pub struct RamQueue {
    disk: Arc<Disk>,
}

#[derive(Debug)]
struct Disk {
    /// As much as the disk may grow to: the file ends before.
    memory: MmapRegion,
    file: File,
    /// Holes are punched: not in huge pages, of which only whole ones go, nor where all memory is to stay.
    sparse: bool,
    /// The file is one of the user's: a flush writes it to its storage.
    outlives: bool,
}

impl Ram {
    /// Returns a disk of zeros, or of what `memory` names holds. With `prealloc` all its memory is taken now, so that
    /// no request waits for a page; that takes about a second for 4 GiB.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when an option makes no sense or the memory is not there.
    pub fn new(
        options: &DiskOptions,
        memory: &RamMemory,
        prealloc: bool,
    ) -> Result<Self, DiskError> {
        let mut geometry = options.geometry()?;
        if !matches!(memory, RamMemory::File(_)) {
            // A file system may keep copies; this memory has none.
            geometry.secure_erase_sectors_max = geometry.write_zeroes_sectors_max;
        }
        let size_bytes = options.size_bytes;
        let reach_bytes = reach_bytes(size_bytes)?;
        let refuse = |reason: String| refused(size_bytes, memory, reason);
        let length = memory.length(size_bytes);
        let file = match memory {
            RamMemory::File(path) => open(path, length)?,
            RamMemory::Sparse | RamMemory::HugePages => {
                let mut flags = MFdFlags::MFD_CLOEXEC;
                flags.set(MFdFlags::MFD_HUGETLB, *memory == RamMemory::HugePages);
                let file = memfd_create("pollux-ram", flags);
                File::from(file.map_err(|e| refuse(e.to_string()))?)
            }
        };
        let mapped = map(&file, memory.length(reach_bytes), libc::MAP_NORESERVE);
        let ram = Self {
            geometry,
            memory: memory.clone(),
            prealloc,
            disk: Arc::new(Disk {
                memory: mapped.map_err(&refuse)?,
                file,
                sparse: *memory != RamMemory::HugePages && !prealloc,
                outlives: matches!(memory, RamMemory::File(_)),
            }),
        };
        ram.set_length(length).map_err(refuse)?;
        if prealloc {
            ram.take_memory(0, length).map_err(refuse)?;
        }
        Ok(ram)
    }

    /// Returns the file of a disk that outlives the process.
    pub fn outliving_file(&self) -> Option<&File> {
        self.disk.outlives.then_some(&self.disk.file)
    }

    /// Makes the file `length` bytes long.
    fn set_length(&self, length: u64) -> Result<(), String> {
        let file = &self.disk.file;
        if self.memory == RamMemory::HugePages {
            // Set aside by a mapping that asks for it, and until the file gets shorter.
            drop(map(file, length, 0)?);
        }
        file.set_len(length).map_err(|e| e.to_string())
    }

    /// Takes the memory of the file's bytes from `start` to `end`, which keep their values, and maps it.
    fn take_memory(&self, start: u64, end: u64) -> Result<(), String> {
        let bytes = end - start;
        // First of all, since memory that is short is an error here and the end of the process in a mapping.
        let taken = fallocate(
            &self.disk.file,
            FallocateFlags::empty(),
            start as i64,
            bytes as i64,
        );
        taken.map_err(|e| e.to_string())?;
        let mapped = Segment::of_region(&self.disk.memory, start as usize, bytes as usize);
        mapped
            .ok_or("the mapping is too short".to_owned())
            .map(|memory| memory.touch())
    }
}

impl RamMemory {
    /// Returns how long the file of a disk is: whole pages.
    fn length(&self, size_bytes: u64) -> u64 {
        size_bytes.next_multiple_of(match self {
            Self::HugePages => 2 << 20,
            Self::Sparse | Self::File(_) => 4096,
        })
    }
}

/// Maps the first `length` bytes of `file`, whether they exist or not.
fn map(file: &File, length: u64, reserve: libc::c_int) -> Result<MmapRegion, String> {
    let shared = file.try_clone().map_err(|e| e.to_string())?;
    let mapped = MmapRegion::build(
        Some(FileOffset::new(shared, 0)),
        length as usize,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | reserve,
    );
    let mapped = mapped.map_err(|e| e.to_string())?;
    leave_out_of_core_dumps(&mapped);
    Ok(mapped)
}

fn refused(size_bytes: u64, memory: &RamMemory, reason: String) -> DiskError {
    let remedy = match memory {
        RamMemory::HugePages => "; raise vm.nr_hugepages or leave hugepages=on out",
        RamMemory::Sparse | RamMemory::File(_) => "",
    };
    DiskError::Memory {
        size_bytes,
        reason,
        remedy,
    }
}

/// Opens the file of a disk of `length` bytes. One that holds something is never made longer or shorter.
fn open(path: &Path, length: u64) -> Result<File, DiskError> {
    let refuse = |reason: std::io::Error| DiskError::File {
        path: path.to_owned(),
        reason,
    };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(refuse)?;
    match file.metadata().map_err(refuse)?.len() {
        0 => file.set_len(length).map_err(refuse)?,
        found if found == length => {}
        found => {
            return Err(DiskError::FileLength {
                path: path.to_owned(),
                found,
                length,
            });
        }
    }
    Ok(file)
}

/// Returns how large a disk of `size_bytes` may become: as large as this machine's memory.
fn reach_bytes(size_bytes: u64) -> Result<u64, DiskError> {
    let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::_PHYS_PAGES);
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let memory_bytes = match (pages, page_bytes) {
        (Ok(Some(pages)), Ok(Some(page_bytes))) => (pages * page_bytes) as u64,
        // It cannot be asked.
        _ => size_bytes,
    };
    if size_bytes > memory_bytes {
        return Err(DiskError::LargerThanMemory {
            size_bytes,
            memory_bytes,
        });
    }
    Ok(memory_bytes)
}

impl Backend for Ram {
    type Queue = RamQueue;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> std::io::Result<RamQueue> {
        Ok(RamQueue {
            disk: Arc::clone(&self.disk),
        })
    }

    fn resized(&self, size_bytes: u64) -> Result<Geometry, DiskError> {
        reach_bytes(size_bytes)?;
        resized(&self.geometry, size_bytes)
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        let size_bytes = geometry.size_bytes();
        let length = self.memory.length(size_bytes);
        let refuse = |reason: String| refused(size_bytes, &self.memory, reason);
        if size_bytes < self.geometry.size_bytes() {
            // What stays of the last page, should the disk grow again.
            let rest = SectorRange {
                first: geometry.capacity_sectors,
                count: (length - size_bytes) / SECTOR_BYTES,
            };
            let forgotten = self.disk.write_zeroes(rest, true);
            forgotten.map_err(|e| refuse(e.to_string()))?;
        }
        let before = self.memory.length(self.geometry.size_bytes());
        self.set_length(length).map_err(refuse)?;
        if self.prealloc && length > before {
            self.take_memory(before, length).map_err(|reason| {
                // Nothing half-made stays: the disk is as it was.
                let _ = self.set_length(before);
                refuse(reason)
            })?;
        }
        self.geometry = geometry;
        Ok(())
    }
}

impl Disk {
    /// Returns the bytes of `range`; empty should it not be on the disk, which its type rules out.
    #[inline]
    fn bytes(&self, range: SectorRange) -> Option<Segment<'_>> {
        let (start, bytes) = (range.start_bytes() as usize, range.bytes() as usize);
        Segment::of_region(&self.memory, start, bytes)
    }

    #[inline]
    fn read(&self, range: SectorRange, into: Data<'_, '_>) -> Option<()> {
        let mut from = self.bytes(range)?;
        for segment in into {
            from.copy_to_segment(segment);
            from = from.skip(segment.len());
        }
        Some(())
    }

    #[inline]
    fn write(&self, range: SectorRange, from: Data<'_, '_>) -> Option<()> {
        let mut into = self.bytes(range)?;
        for segment in from {
            segment.copy_to_segment(&into);
            into = into.skip(segment.len());
        }
        Some(())
    }

    /// Everything is in the page cache by then, and survives this process; a flush is for the machine's own end.
    fn flush(&self) -> nix::Result<()> {
        if self.outlives {
            nix::unistd::fdatasync(&self.file)?;
        }
        Ok(())
    }

    fn discard(&self, range: SectorRange) -> nix::Result<()> {
        if !self.sparse || range.count == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(
            &self.file,
            flags,
            range.start_bytes() as i64,
            range.bytes() as i64,
        )
    }

    /// Overwrites it, before the pages go to others.
    fn secure_erase(&self, range: SectorRange) -> nix::Result<()> {
        self.write_zeroes(range, false)?;
        self.discard(range)
    }

    fn write_zeroes(&self, range: SectorRange, unmap: bool) -> nix::Result<()> {
        if unmap && self.sparse {
            return self.discard(range);
        }
        if let Some(bytes) = self.bytes(range) {
            bytes.zero();
        }
        Ok(())
    }
}

impl BackendQueue for RamQueue {
    #[inline]
    fn submit(&mut self, _: Token, operation: Operation<'_, '_>) -> Submission {
        let off_the_disk = nix::Error::EINVAL;
        let result = match operation {
            Operation::Read { range, into } => self.disk.read(range, into).ok_or(off_the_disk),
            Operation::Write { range, from } => self.disk.write(range, from).ok_or(off_the_disk),
            Operation::Flush => self.disk.flush(),
            Operation::Discard(ranges) => ranges
                .iter()
                .try_for_each(|range| self.disk.discard(*range)),
            Operation::SecureErase(ranges) => ranges
                .iter()
                .try_for_each(|range| self.disk.secure_erase(*range)),
            Operation::WriteZeroes { ranges, unmap } => ranges
                .iter()
                .try_for_each(|range| self.disk.write_zeroes(*range, unmap)),
        };
        Submission::Complete(match result {
            Ok(()) => Outcome::Done,
            Err(errno) => Outcome::Failed {
                errno: errno as i32,
            },
        })
    }
}
