//! One mmap of a file that a driver shares with us.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use vm_memory::{FileOffset, MmapRegion};

use super::leave_out_of_core_dumps;

/// What the device may do with a mapping. From the device's side: `ReadOnly` memory carries
/// requests, `WriteOnly` memory only answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The device may only read.
    ReadOnly,
    /// The device may only write.
    WriteOnly,
    /// The device may do both.
    ReadWrite,
}

/// Why a file could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// mmap refused.
    #[error("cannot map {bytes} bytes at offset {offset:#x} of the driver's memory: {reason}")]
    Map {
        /// File offset asked for.
        offset: u64,
        /// Length asked for.
        bytes: u64,
        /// What mmap said.
        reason: String,
    },
    /// The file could not be asked for its page size.
    #[error("cannot examine the driver's memory file: {0}")]
    Examine(#[source] io::Error),
}

/// A shared mapping of part of a file. Unmapped when the last holder drops it.
#[derive(Debug)]
pub struct Mapping {
    region: MmapRegion,
    access: Access,
    /// Where the asked-for offset lies in `region`, which consists of whole pages, huge ones for
    /// hugetlbfs.
    lead: usize,
    page_bytes: usize,
}

impl Mapping {
    /// Maps `bytes` bytes of `file` from `offset` on, shared.
    ///
    /// # Errors
    ///
    /// [`MappingError`] when the file cannot be examined or mapped.
    pub fn new(
        file: OwnedFd,
        offset: u64,
        bytes: u64,
        access: Access,
    ) -> Result<Self, MappingError> {
        let file = File::from(file);
        let page_bytes = page_bytes(&file).map_err(|e| MappingError::Examine(e.into()))?;
        let start = offset - offset % page_bytes;
        let lead = offset - start;
        let refuse = |reason: String| MappingError::Map {
            offset,
            bytes,
            reason,
        };
        // Whole pages: what stands in for a missing one stays inside, and munmap takes huge pages only
        // whole.
        let length = lead
            .checked_add(bytes)
            .and_then(|length| length.checked_next_multiple_of(page_bytes))
            .and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(|| refuse("the length overflows".into()))?;
        let protection = match access {
            Access::ReadOnly => libc::PROT_READ,
            Access::WriteOnly | Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let region = MmapRegion::build(
            Some(FileOffset::new(file, start)),
            length,
            protection,
            flags,
        )
        .map_err(|e| refuse(e.to_string()))?;
        leave_out_of_core_dumps(&region);
        Ok(Self {
            region,
            access,
            lead: lead as usize,
            page_bytes: page_bytes as usize,
        })
    }

    /// Returns what the device may do with this memory.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns the whole mmap; [`lead`](Self::lead) bytes of it come before the offset asked for.
    pub(super) fn region(&self) -> &MmapRegion {
        &self.region
    }

    pub(super) fn lead(&self) -> usize {
        self.lead
    }

    /// Returns where the byte at the offset asked for is, for the kernel: what is there is read and written
    /// through a region table only.
    pub fn start(&self) -> *mut u8 {
        self.region.as_ptr().wrapping_add(self.lead)
    }

    /// Returns the bytes from the offset asked for to the end of the mapping.
    pub fn len(&self) -> usize {
        self.region.size() - self.lead
    }

    /// Returns whether the mapping has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the size of the pages behind the mapping, in bytes.
    pub(super) fn page_bytes(&self) -> usize {
        self.page_bytes
    }
}

/// Returns the size of the pages that `file` is mapped in. Only hugetlbfs tells it as the block size;
/// elsewhere that is advice on I/O, and may be larger than a page.
fn page_bytes(file: &File) -> nix::Result<u64> {
    use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
    if fstatfs(file)?.filesystem_type() == HUGETLBFS_MAGIC {
        return Ok(nix::sys::stat::fstat(file)?.st_blksize as u64);
    }
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?;
    Ok(page_bytes.map_or(4096, |bytes| bytes as u64))
}
