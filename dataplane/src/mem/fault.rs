//! Memory that disappears: a driver can shrink the file behind a mapping, or name an address whose
//! page does not exist (VDUSE's bounce pages come into being on first use). Touching it raises SIGBUS.
//!
//! A thread that holds a [`FaultGuard`] survives that: the handler puts a page of zeros there and
//! raises a flag, which the worker reads before it believes what it read, and turns into a broken
//! queue. Other threads and other signals' handlers are not affected.
//!
//! # Safety
//!
//! The handler calls only mmap and sigaction, both plain system calls, and reads thread-local and
//! immutable data.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::RegionTable;

/// What the handler sees of the thread it interrupted.
struct Watch {
    table: Arc<RegionTable>,
    /// Host address of the page that was missing; 0 for none.
    page: AtomicUsize,
}

thread_local! {
    // Const-initialised and without a destructor, so that the signal handler can read it.
    static WATCH: Cell<*const Watch> = const { Cell::new(ptr::null()) };
}

static PREVIOUS: OnceLock<SigAction> = OnceLock::new();

/// While it lives, this thread survives missing pages in the memory of one region table.
#[derive(Debug)]
pub struct FaultGuard {
    watch: *mut Watch,
    /// The handler finds the watch through the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl FaultGuard {
    /// Guards the calling thread against missing pages in `table`. One guard a thread.
    pub fn new(table: Arc<RegionTable>) -> Self {
        install_handler();
        let watch = Box::into_raw(Box::new(Watch {
            table,
            page: AtomicUsize::new(0),
        }));
        let before = WATCH.replace(watch);
        assert!(
            before.is_null(),
            "a thread watches one region table at a time"
        );
        Self {
            watch,
            _not_send: PhantomData,
        }
    }

    /// Returns whether a page was missing since the last call. The page that stood in for it is
    /// replaced by the file's own again, so a later touch is judged anew.
    #[inline]
    pub fn take(&self) -> bool {
        // SAFETY: `watch` was made by `new` and is freed only by `drop`.
        let watch = unsafe { &*self.watch };
        match watch.page.load(Ordering::Relaxed) {
            0 => false,
            page => {
                watch.page.store(0, Ordering::Relaxed);
                restore(watch, page);
                true
            }
        }
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        self.take();
        WATCH.set(ptr::null());
        // SAFETY: `watch` came from Box::into_raw in `new`; the handler can no longer find it.
        drop(unsafe { Box::from_raw(self.watch) });
    }
}

/// Maps the file's page over the zeros at `page`.
#[cold]
fn restore(watch: &Watch, page: usize) {
    let Some((_, mapping)) = watch.table.page_at(page) else {
        return;
    };
    let Some(file) = mapping.region().file_offset() else {
        return;
    };
    let offset = file.start() as usize + (page - mapping.region().as_ptr() as usize);
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: `page_at` found that the page lies inside our own mapping of this file, so MAP_FIXED
    // replaces nothing else. Failure leaves the zeros, which is safe.
    unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            mapping.page_bytes(),
            mapping.region().prot(),
            flags,
            file.file().as_raw_fd(),
            offset as libc::off_t,
        )
    };
}

fn install_handler() {
    PREVIOUS.get_or_init(|| {
        let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
        let action = SigAction::new(SigHandler::SigAction(on_sigbus), flags, SigSet::empty());
        // SAFETY: `on_sigbus` is async-signal-safe, see the module's header.
        let previous = unsafe { sigaction(Signal::SIGBUS, &action) };
        previous.unwrap_or_else(|_| {
            SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty())
        })
    });
}

extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a SA_SIGINFO handler; SIGBUS fills si_addr.
    let address = unsafe { (*info).si_addr() } as usize;
    let watch = WATCH.get();
    if !watch.is_null() {
        // SAFETY: not null, so this thread's guard is alive, and with it the watch.
        let watch = unsafe { &*watch };
        if cover(watch, address) {
            return;
        }
    }
    // Not ours: let the access fault again under whoever was there before.
    let fallback = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: restores a handler that was installed before, or the default.
    let _ = unsafe { sigaction(Signal::SIGBUS, PREVIOUS.get().unwrap_or(&fallback)) };
}

/// Puts zeros where a page of the watched table is missing. Returns whether it could.
fn cover(watch: &Watch, address: usize) -> bool {
    let Some((page, mapping)) = watch.table.page_at(address) else {
        return false;
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: `page_at` found that the page lies inside a mapping that the watched table keeps alive.
    let mapped = unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            mapping.page_bytes(),
            protection,
            flags,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    watch.page.store(page, Ordering::Relaxed);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::memory;
    use crate::mem::{Access, Direction, Iova, Mapping, Region};

    fn table(file: &std::os::fd::OwnedFd, bytes: u64) -> Arc<RegionTable> {
        let file = file.try_clone().unwrap();
        let mapping = Arc::new(Mapping::new(file, 0, bytes, Access::ReadWrite).unwrap());
        let region = Region {
            first: Iova(0),
            last: Iova(bytes - 1),
            mapping,
        };
        Arc::new(RegionTable::new(vec![region]).unwrap())
    }

    #[test]
    fn a_missing_page_reads_as_zeros_and_is_reported_once() {
        let file = memory(0x1000);
        let table = table(&file, 0x2000);
        let guard = FaultGuard::new(Arc::clone(&table));
        let mut bytes = [1_u8; 16];
        table
            .segment(Iova(0x1800), 16, Direction::Readable)
            .unwrap()
            .copy_to(&mut bytes);
        assert_eq!(bytes, [0; 16]);
        assert!(guard.take());
        assert!(!guard.take());
    }

    #[test]
    fn a_page_that_comes_back_is_the_files_own() {
        let file = memory(0x1000);
        let table = table(&file, 0x2000);
        let guard = FaultGuard::new(Arc::clone(&table));
        table.store_byte(Iova(0x1000), 7).unwrap();
        assert!(guard.take());
        nix::unistd::ftruncate(&file, 0x2000).unwrap();
        table.store_byte(Iova(0x1000), 9).unwrap();
        assert!(!guard.take());
        let mut seen = [0];
        nix::sys::uio::pread(&file, &mut seen, 0x1000).unwrap();
        assert_eq!(seen, [9]);
    }
}
