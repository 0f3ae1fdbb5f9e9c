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

/// Returns whether a core dump of this process would have the byte at `address`, as far as advice tells.
pub(crate) fn is_dumped(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("it can be read");
    let bounds = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(start)?..number(end)?)
    };
    let mut lines = maps.lines();
    lines
        .by_ref()
        .find(|line| bounds(line).is_some_and(|it| it.contains(&address)))
        .expect("it is mapped");
    let flags = lines.find(|line| line.starts_with("VmFlags:"));
    !flags.expect("flags").split(' ').any(|flag| flag == "dd")
}
