//! A disk in memory: a sparse memfd, mapped once.

use std::fs::File;
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{FileOffset, MmapRegion};

use super::{Backend, BackendQueue, DiskError, DiskOptions, Outcome, Submission, Token};
use crate::blk::{Data, Geometry, Operation, SectorRange};
use crate::mem::Segment;

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
}

impl Ram {
    /// Returns a disk of zeros. Its memory is taken as it is written, or all at once from the huge page
    /// pool with `hugepages`.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when an option makes no sense or the memory is not there.
    pub fn new(options: &DiskOptions, hugepages: bool) -> Result<Self, DiskError> {
        let geometry = options.geometry()?;
        let size_bytes = options.size_bytes;
        let memory_bytes = machine_memory_bytes();
        if size_bytes > memory_bytes {
            return Err(DiskError::LargerThanMemory {
                size_bytes,
                memory_bytes,
            });
        }
        let remedy = if hugepages {
            "; raise vm.nr_hugepages or leave hugepages=on out"
        } else {
            ""
        };
        let refuse = |reason: String| DiskError::Memory {
            size_bytes,
            reason,
            remedy,
        };
        let (kind, reserve) = if hugepages {
            (MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB, 0)
        } else {
            (MFdFlags::MFD_CLOEXEC, libc::MAP_NORESERVE)
        };
        let file = memfd_create("pollux-ram", kind).map_err(|e| refuse(e.to_string()))?;
        let page_bytes = if hugepages { 2 << 20 } else { 4096 };
        let length = size_bytes.next_multiple_of(page_bytes);
        nix::unistd::ftruncate(&file, length as i64).map_err(|e| refuse(e.to_string()))?;
        let file = File::from(file);
        let shared = file.try_clone().map_err(|e| refuse(e.to_string()))?;
        let memory = MmapRegion::build(
            Some(FileOffset::new(shared, 0)),
            length as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | reserve,
        );
        let memory = memory.map_err(|e| refuse(e.to_string()))?;
        Ok(Self {
            geometry,
            disk: Arc::new(Disk {
                memory,
                file,
                sparse: !hugepages,
            }),
        })
    }
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
            Operation::Flush => Ok(()),
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
