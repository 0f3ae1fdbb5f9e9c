//! A disk in memory: a sparse memfd, or a file that outlives the process, mapped once.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{FileOffset, MmapRegion};

use super::{Backend, BackendQueue, DiskError, DiskOptions, Outcome, Submission, Token};
use crate::blk::{Data, Geometry, Operation, SectorRange};
use crate::mem::Segment;

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
    disk: Arc<Disk>,
}

/// A queue of the ram backend. All queues see the same bytes.
#[derive(Debug)]
pub struct RamQueue {
    disk: Arc<Disk>,
}

#[derive(Debug)]
struct Disk {
    memory: MmapRegion,
    file: File,
    /// Holes are punched in whole huge pages only, so there they are not worth the call.
    sparse: bool,
    /// The file is one of the user's: a flush writes it to its storage.
    outlives: bool,
}

impl Ram {
    /// Returns a disk of zeros, or of what `memory` names holds.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when an option makes no sense or the memory is not there.
    pub fn new(options: &DiskOptions, memory: &RamMemory) -> Result<Self, DiskError> {
        let geometry = options.geometry()?;
        let size_bytes = options.size_bytes;
        let memory_bytes = machine_memory_bytes();
        if size_bytes > memory_bytes {
            return Err(DiskError::LargerThanMemory {
                size_bytes,
                memory_bytes,
            });
        }
        let remedy = match memory {
            RamMemory::HugePages => "; raise vm.nr_hugepages or leave hugepages=on out",
            RamMemory::Sparse | RamMemory::File(_) => "",
        };
        let refuse = |reason: String| DiskError::Memory {
            size_bytes,
            reason,
            remedy,
        };
        let (page_bytes, reserve) = match memory {
            RamMemory::HugePages => (2 << 20, 0),
            RamMemory::Sparse | RamMemory::File(_) => (4096, libc::MAP_NORESERVE),
        };
        let length = size_bytes.next_multiple_of(page_bytes);
        let file = match memory {
            RamMemory::File(path) => open(path, length)?,
            RamMemory::Sparse | RamMemory::HugePages => {
                let mut flags = MFdFlags::MFD_CLOEXEC;
                flags.set(MFdFlags::MFD_HUGETLB, *memory == RamMemory::HugePages);
                let file = memfd_create("pollux-ram", flags);
                let file = File::from(file.map_err(|e| refuse(e.to_string()))?);
                file.set_len(length).map_err(|e| refuse(e.to_string()))?;
                file
            }
        };
        let shared = file.try_clone().map_err(|e| refuse(e.to_string()))?;
        let mapped = MmapRegion::build(
            Some(FileOffset::new(shared, 0)),
            length as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | reserve,
        );
        let mapped = mapped.map_err(|e| refuse(e.to_string()))?;
        Ok(Self {
            geometry,
            disk: Arc::new(Disk {
                memory: mapped,
                file,
                sparse: *memory != RamMemory::HugePages,
                outlives: matches!(memory, RamMemory::File(_)),
            }),
        })
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

/// Returns the memory of this machine in bytes; no limit when it cannot be asked.
fn machine_memory_bytes() -> u64 {
    let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::_PHYS_PAGES);
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    match (pages, page_bytes) {
        (Ok(Some(pages)), Ok(Some(page_bytes))) => (pages * page_bytes) as u64,
        _ => u64::MAX,
    }
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
