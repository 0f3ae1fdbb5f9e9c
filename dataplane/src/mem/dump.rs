//! Core dumps without the data of disks: what holds it is left out, whatever `coredump_filter` says.
//!
//! # Safety
//!
//! The advice changes what a core dump has of mapped memory, and nothing else.

#![allow(unsafe_code)]

use vm_memory::MmapRegion;

/// Leaves all of `region` out of core dumps.
pub(crate) fn leave_out_of_core_dumps(region: &MmapRegion) {
    leave_out(region.as_ptr() as usize, region.size());
}

/// The same for the `bytes` bytes at host address `start`, whole pages.
pub(super) fn leave_out(start: usize, bytes: usize) {
    // SAFETY: see the module's header. It fails only for what is not mapped, of which there is no dump.
    unsafe { libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_DONTDUMP) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::{is_dumped, memory};
    use crate::mem::{Access, Mapping};

    #[test]
    fn memory_of_a_driver_is_in_no_core_dump() {
        let mapping = Mapping::new(memory(0x3000), 0x810, 0x1001, Access::ReadWrite).unwrap();
        assert!(!is_dumped(mapping.start() as usize));
        let stack = 0_u8;
        assert!(is_dumped(&raw const stack as usize));
    }

    #[test]
    fn memory_of_our_own_is_as_well() {
        let region: MmapRegion = MmapRegion::new(0x2000).unwrap();
        assert!(is_dumped(region.as_ptr() as usize));
        leave_out_of_core_dumps(&region);
        assert!(!is_dumped(region.as_ptr() as usize));
    }
}
