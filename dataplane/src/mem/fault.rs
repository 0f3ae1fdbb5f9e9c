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
use std::sync::atomic::{AtomicUsize, Ordering, compiler_fence};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::dump::leave_out;
use super::{Mapping, RegionTable};

/// What the handler sees of the thread it interrupted.
struct Watch {
    table: Arc<RegionTable>,
    /// How many pages were missing since the worker last asked.
    count: AtomicUsize,
    /// Host addresses of the first of them.
    pages: [AtomicUsize; PAGES_MAX],
}

/// Missing pages that are restored one by one; with more of them all memory is.
const PAGES_MAX: usize = 16;

thread_local! {
    // Const-initialised and without a destructor, so that the signal handler can read it.
    static WATCH: Cell<*const Watch> = const { Cell::new(ptr::null()) };
}

static PREVIOUS: OnceLock<SigAction> = OnceLock::new();

/// While it lives and no other guard of its thread is the current one, this thread survives missing pages in the memory of
/// one region table. A thread that serves several queues enters the guard of each in turn, so that a missing page is the
/// fault of the queue that it serves, also where two queues have the same memory.
#[derive(Debug)]
pub struct FaultGuard {
    watch: *mut Watch,
    /// The handler finds the watch through the thread that made it.
    _not_send: PhantomData<*const ()>,
}

impl FaultGuard {
    /// Guards the calling thread against missing pages in `table`, until another guard is made or
    /// [entered](Self::enter) there.
    pub fn new(table: Arc<RegionTable>) -> Self {
        install_handler();
        let watch = Box::into_raw(Box::new(Watch {
            table,
            count: AtomicUsize::new(0),
            pages: Default::default(),
        }));
        WATCH.set(watch);
        Self {
            watch,
            _not_send: PhantomData,
        }
    }

    /// Guards the thread that made it again, in place of the guard that was made or entered last. Pages that are missing from
    /// now on are put down to this one.
    #[inline]
    pub fn enter(&self) {
        WATCH.set(self.watch);
    }

    /// Returns whether a page was missing since the last call. Every page that stood in for one is
    /// replaced by the file's own again, so a later touch is judged anew.
    #[inline]
    pub fn take(&self) -> bool {
        // SAFETY: `watch` was made by `new` and is freed only by `drop`.
        let watch = unsafe { &*self.watch };
        // Pairs with the handler's store, on this very thread: what was copied before stays before.
        compiler_fence(Ordering::SeqCst);
        let count = watch.count.load(Ordering::Relaxed);
        if count > 0 {
            restore_all(watch, count);
            watch.count.store(0, Ordering::Relaxed);
        }
        count > 0
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        self.take();
        if ptr::eq(WATCH.get(), self.watch) {
            WATCH.set(ptr::null());
        }
        // SAFETY: `watch` came from Box::into_raw in `new`; the handler can no longer find it.
        drop(unsafe { Box::from_raw(self.watch) });
    }
}

/// Maps the files over the zeros of the `count` pages that were missing.
#[cold]
fn restore_all(watch: &Watch, count: usize) {
    if let Some(pages) = watch.pages.get(..count) {
        for page in pages {
            let page = page.load(Ordering::Relaxed);
            if let Some((_, mapping)) = watch.table.page_at(page) {
                restore(mapping, page, mapping.page_bytes());
            }
        }
        return;
    }
    for region in watch.table.regions() {
        let memory = region.mapping.region();
        restore(&region.mapping, memory.as_ptr() as usize, memory.size());
    }
}

/// Maps the file of `mapping` over its `bytes` bytes at host address `start`, whole pages.
fn restore(mapping: &Mapping, start: usize, bytes: usize) {
    let Some(file) = mapping.region().file_offset() else {
        return;
    };
    let offset = file.start() as usize + (start - mapping.region().as_ptr() as usize);
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: both callers name whole pages inside our own mapping of this file, so MAP_FIXED replaces
    // nothing else. Failure leaves the zeros, which is safe.
    unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            bytes,
            mapping.region().prot(),
            flags,
            file.file().as_raw_fd(),
            offset as libc::off_t,
        )
    };
    // What is mapped anew would be in core dumps again.
    leave_out(start, bytes);
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
    // Only this thread and its own handler come here, one after the other.
    let count = watch.count.load(Ordering::Relaxed);
    if let Some(place) = watch.pages.get(count) {
        place.store(page, Ordering::Relaxed);
    }
    watch
        .count
        .store(count.saturating_add(1), Ordering::Relaxed);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::{is_dumped, memory};
    use crate::mem::{Access, Direction, Iova, Region};

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
    fn a_missing_page_is_the_fault_of_the_guard_that_was_entered() {
        let file = memory(0x1000);
        let table = table(&file, 0x3000);
        let guards = [(); 3].map(|()| FaultGuard::new(Arc::clone(&table)));
        for (index, guard) in guards.iter().enumerate() {
            guard.enter();
            table.store_byte(Iova(0x1000), 7).unwrap();
            let taken: Vec<bool> = guards.iter().map(FaultGuard::take).collect();
            assert_eq!(taken, [index == 0, index == 1, index == 2]);
        }
        let [first, second, third] = guards;
        // One that goes while another is current leaves that alone.
        first.enter();
        drop(second);
        table.store_byte(Iova(0x2000), 7).unwrap();
        assert!(first.take() && !third.take());
    }

    #[test]
    fn a_page_that_comes_back_is_the_files_own() {
        let file = memory(0x1000);
        let table = table(&file, 0x2000);
        let guard = FaultGuard::new(Arc::clone(&table));
        table.store_byte(Iova(0x1000), 7).unwrap();
        assert!(guard.take());
        let mapping = &table.regions()[0].mapping;
        assert!(!is_dumped(mapping.start() as usize + 0x1000));
        nix::unistd::ftruncate(&file, 0x2000).unwrap();
        table.store_byte(Iova(0x1000), 9).unwrap();
        assert!(!guard.take());
        let mut seen = [0];
        nix::sys::uio::pread(&file, &mut seen, 0x1000).unwrap();
        assert_eq!(seen, [9]);
    }

    #[test]
    fn every_missing_page_comes_back_not_only_the_last() {
        for pages in [2, PAGES_MAX as u64, PAGES_MAX as u64 + 1] {
            let file = memory(0x1000);
            let bytes = (pages + 1) * 0x1000;
            let table = table(&file, bytes);
            let guard = FaultGuard::new(Arc::clone(&table));
            for page in 1..=pages {
                table.store_byte(Iova(page * 0x1000), 7).unwrap();
            }
            assert!(guard.take());
            nix::unistd::ftruncate(&file, bytes as i64).unwrap();
            for page in 1..=pages {
                table.store_byte(Iova(page * 0x1000), 9).unwrap();
                let mut seen = [0];
                nix::sys::uio::pread(&file, &mut seen, page as i64 * 0x1000).unwrap();
                assert_eq!(seen, [9], "page {page} of {pages} is not the file's");
            }
            assert!(!guard.take());
        }
    }

    #[test]
    fn what_stands_in_for_a_page_stays_inside_of_its_mapping() {
        let mapping = Mapping::new(memory(0x3000), 0x810, 0x1001, Access::ReadWrite).unwrap();
        let bytes = mapping.len() as u64;
        let region = Region {
            first: Iova(0),
            last: Iova(0x1000),
            mapping: Arc::new(mapping),
        };
        let table = RegionTable::new(vec![region]).unwrap();
        let region = &table.regions()[0];
        let memory = region.mapping.region();
        let end = memory.as_ptr() as usize + memory.size();
        assert!(bytes > 0x1000);
        for address in memory.as_ptr() as usize..end {
            let (page, mapping) = table.page_at(address).unwrap();
            assert!(page <= address && page + mapping.page_bytes() <= end);
        }
    }
}
