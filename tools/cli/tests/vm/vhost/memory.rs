//! Memory that a driver shares with the device: a memfd, mapped here.

#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A shared mapping. The device writes to it at any time, so it is only copied in and out.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    file: OwnedFd,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value, and is only copied in and out, through raw pointers.
unsafe impl Send for SharedMemory {}
// SAFETY: as above; threads that write the same bytes at once see either's, as with a device.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Returns `bytes` bytes of zeros.
    pub(crate) fn new(bytes: usize) -> Self {
        let file = memfd_create("guest", MFdFlags::MFD_CLOEXEC).expect("a memfd");
        nix::unistd::ftruncate(&file, bytes as i64).expect("ftruncate");
        let length = NonZeroUsize::new(bytes).expect("some bytes");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping where the kernel likes it overlaps nothing.
        let start = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &file, 0) };
        let start = start.expect("mmap").cast();
        Self { file, start, bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Returns where it is in this process.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Returns where `count` bytes from `offset` on are, for a driver to pass on to the device.
    pub(crate) fn pointer(&self, offset: usize, count: usize) -> *mut u8 {
        self.at(offset as u64, count)
    }

    /// Takes all pages away, under the mappings of everyone. To touch it afterwards ends this process.
    pub(crate) fn vanish(&self) {
        nix::unistd::ftruncate(&self.file, 0).expect("ftruncate");
    }

    /// Returns the pointer to `count` bytes from `offset` on.
    fn at(&self, offset: u64, count: usize) -> *mut u8 {
        let offset = offset as usize;
        assert!(offset + count <= self.bytes, "{offset} + {count}");
        // SAFETY: checked to be inside of the mapping.
        unsafe { self.start.as_ptr().add(offset) }
    }

    pub(crate) fn write(&self, offset: u64, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: `at` checked the range, and `from` is not part of it: nobody has a reference into it.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }

    pub(crate) fn read(&self, offset: u64, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: as in `write`.
        unsafe { from.copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
    }

    /// Stores an index after everything else.
    pub(crate) fn publish(&self, offset: u64, value: u16) {
        fence(Ordering::SeqCst);
        self.index_at(offset).store(value, Ordering::SeqCst);
    }

    /// Loads an index before everything else.
    pub(crate) fn load(&self, offset: u64) -> u16 {
        self.index_at(offset).load(Ordering::SeqCst)
    }

    fn index_at(&self, offset: u64) -> &AtomicU16 {
        assert!(offset.is_multiple_of(2), "{offset}");
        // SAFETY: in the mapping, aligned, and all processes use these two bytes as an atomic.
        unsafe { AtomicU16::from_ptr(self.at(offset, 2).cast()) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and no pointer into it outlives a method.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}
