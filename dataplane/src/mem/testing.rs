//! Memory for tests: a memfd as a driver would share one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Access, Iova, Mapping, Region};

/// Returns a memfd of `bytes` zero bytes.
pub(crate) fn memory(bytes: u64) -> OwnedFd {
    let file = memfd_create("test", MFdFlags::MFD_CLOEXEC).expect("memfd");
    nix::unistd::ftruncate(&file, bytes as i64).expect("ftruncate");
    file
}

/// Returns a region of fresh memory at `first`, `bytes` long.
pub(crate) fn region(first: u64, bytes: u64) -> Region {
    let mapping = Mapping::new(memory(bytes), 0, bytes, Access::ReadWrite).expect("mapping");
    Region {
        first: Iova(first),
        last: Iova(first + bytes - 1),
        mapping: Arc::new(mapping),
    }
}
