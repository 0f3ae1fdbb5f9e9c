//! The io_uring of one worker: entries are pushed, submitted together, and their completions taken.
//!
//! It is made disabled by whoever opens the queue, and enabled by the worker, which the kernel then knows as its only
//! issuer. Completions of an ordinary ring are finished by the worker itself when it enters the kernel, which a flag
//! in shared memory tells it to; those of a polled ring only when it looks for them there.
//!
//! # Safety
//!
//! The kernel uses the memory that an entry names until its completion is taken: [`Ring::push`] asks for that. What
//! is registered stays mapped until it is replaced: [`Ring::register`] asks for that.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::types::CancelBuilder;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::limits::QUEUE_SIZE_MAX;
use crate::mem::{RegionTable, Segment};

/// The one file that a ring has registered.
pub(in crate::backend) const FILE: types::Fixed = types::Fixed(0);

/// The flag of an entry for it.
const FIXED_FILE: u8 = squeue::Flags::FIXED_FILE.bits();

/// Registered stretches of memory, at most.
const REGISTERED_MAX: u16 = 64;

/// The kernel registers no longer stretch at once (io_uring/rsrc.c).
const STRETCH_BYTES_MAX: usize = 1 << 30;

/// What a worker's entries do. The kernel takes no others, such as those that open files: what a worker may not do by a system
/// call it may not do through its ring either.
const OPERATIONS: [u8; 10] = [
    opcode::Nop::CODE,
    opcode::Read::CODE,
    opcode::Readv::CODE,
    opcode::ReadFixed::CODE,
    opcode::Write::CODE,
    opcode::Writev::CODE,
    opcode::WriteFixed::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
    opcode::UringCmd16::CODE,
];

/// `IORING_REGISTER_ENABLE_RINGS`, `IORING_REGISTER_BUFFERS_UPDATE` and `IORING_REGISTER_SYNC_CANCEL`
/// (include/uapi/linux/io_uring.h).
const REGISTRATIONS: [u8; 3] = [12, 16, 24];

/// Milliseconds without a submission after which the kernel's submission thread sleeps.
const SUBMISSION_THREAD_IDLE_MS: u32 = 1_000;

/// How a ring works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingOptions {
    /// Completions are polled for in the device, which has queues for that.
    pub polled: bool,
    /// A thread of the kernel submits, so that the worker makes no system call.
    pub submission_thread: bool,
    /// The CPU of that thread.
    pub submission_cpu: Option<u32>,
}

/// A ring over one file, its entries and completions of any size.
pub(in crate::backend) struct Ring<S: squeue::EntryMarker, C: cqueue::EntryMarker> {
    ring: IoUring<S, C>,
    /// Signalled by a completion, or one that waits to be finished here: the ring's own file is not woken by the latter.
    signal: EventFd,
    options: RingOptions,
    enabled: bool,
    unsubmitted: usize,
    /// Submitted or not, and not completed.
    pending: usize,
    system_calls: u64,
    registered: Vec<Registered>,
}

/// Memory that the kernel has pinned.
#[derive(Clone, Copy, Debug)]
struct Registered {
    start: usize,
    end: usize,
    index: u16,
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Ring<S, C> {
    /// Returns a ring over `file`.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub(super) fn new(file: BorrowedFd<'_>, options: RingOptions) -> io::Result<Self> {
        let mut builder = IoUring::<S, C>::builder();
        builder
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_submit_all();
        if options.polled {
            builder.setup_iopoll();
        }
        if options.submission_thread {
            builder.setup_sqpoll(SUBMISSION_THREAD_IDLE_MS);
            if let Some(cpu) = options.submission_cpu {
                builder.setup_sqpoll_cpu(cpu);
            }
        } else {
            builder.setup_defer_taskrun().setup_taskrun_flag();
        }
        let ring = builder.build(u32::from(QUEUE_SIZE_MAX))?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let signal = EventFd::from_flags(flags)?;
        ring.submitter()
            .register_eventfd(signal.as_fd().as_raw_fd())?;
        ring.submitter()
            .register_buffers_sparse(u32::from(REGISTERED_MAX))?;
        // From its enabling on.
        let mut restrictions = [Restriction::sqe_flags_allowed(FIXED_FILE)]
            .into_iter()
            .chain(OPERATIONS.map(Restriction::sqe_op))
            .chain(REGISTRATIONS.map(Restriction::register_op))
            .collect::<Vec<_>>();
        ring.submitter().register_restrictions(&mut restrictions)?;
        Ok(Self {
            ring,
            signal,
            options,
            enabled: false,
            unsubmitted: 0,
            pending: 0,
            system_calls: 0,
            registered: Vec::with_capacity(usize::from(REGISTERED_MAX)),
        })
    }

    /// Returns how many system calls it has made.
    pub(super) fn system_calls(&self) -> u64 {
        self.system_calls
    }

    /// Registers what of `memory` the kernel takes, in place of what was registered before. Nothing is pending.
    ///
    /// # Safety
    ///
    /// It stays mapped until this is called again.
    pub(super) unsafe fn register(&mut self, memory: &RegionTable) {
        self.enable();
        let nothing = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        for stretch in std::mem::take(&mut self.registered) {
            self.update(stretch.index, nothing);
        }
        let stretches = memory.regions().iter().flat_map(|region| {
            let (start, bytes) = (region.mapping.start() as usize, region.mapping.len());
            let offsets = (0..bytes).step_by(STRETCH_BYTES_MAX);
            offsets.map(move |at| (start + at, (bytes - at).min(STRETCH_BYTES_MAX)))
        });
        for (index, (start, bytes)) in (0..REGISTERED_MAX).zip(stretches) {
            let stretch = libc::iovec {
                iov_base: start as *mut _,
                iov_len: bytes,
            };
            // Pages that are not there, or not this process's to pin, are used as they are.
            if self.update(index, stretch) {
                let end = start + bytes;
                self.registered.push(Registered { start, end, index });
            }
        }
    }

    /// Returns whether `stretch` is registered as `index` now.
    fn update(&mut self, index: u16, stretch: libc::iovec) -> bool {
        self.system_calls += 1;
        let submitter = self.ring.submitter();
        // SAFETY: the caller of `register`, the only one here, promises that the memory stays mapped until it is
        // replaced; the kernel pins its pages itself.
        let updated =
            unsafe { submitter.register_buffers_update(u32::from(index), &[stretch], None) };
        updated.is_ok()
    }

    /// Returns the number under which all of `segment` is registered.
    #[inline]
    pub(super) fn registered(&self, segment: &Segment<'_>) -> Option<u16> {
        let start = segment.as_ptr() as usize;
        let end = start + segment.len();
        let holds = |stretch: &&Registered| stretch.start <= start && end <= stretch.end;
        self.registered.iter().find(holds).map(|it| it.index)
    }

    /// Adds `entry`, to be known as `user_data`. Returns whether there was room.
    ///
    /// # Safety
    ///
    /// The memory that it names stays valid until its completion was taken.
    #[inline]
    pub(super) unsafe fn push(&mut self, mut entry: S, user_data: u64) -> bool {
        entry.set_user_data(user_data);
        // SAFETY: the caller's promise is what the kernel asks for.
        let pushed = unsafe { self.ring.submission().push(&entry) }.is_ok();
        self.unsubmitted += usize::from(pushed);
        self.pending += usize::from(pushed);
        pushed
    }

    /// Submits what was pushed. Returns whether there was anything.
    #[inline]
    pub(super) fn submit(&mut self) -> bool {
        let waits = self.unsubmitted > 0;
        if waits {
            self.enter(0);
        }
        waits
    }

    /// Takes a completion: what it is known as and its result, an errno below 0.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(u64, i32)> {
        let completion: cqueue::Entry = self.ring.completion().next()?.into();
        self.pending -= 1;
        Some((completion.user_data(), completion.result()))
    }

    /// Has the kernel go on with what takes this thread to do so: entries that it had no room for, completions that
    /// wait to be finished here, a device that is polled.
    #[inline]
    pub(super) fn drive(&mut self) {
        if self.pending == 0 {
            return;
        }
        let waits = |ring: &mut IoUring<S, C>| {
            let queue = ring.submission();
            queue.taskrun() || queue.cq_overflow()
        };
        let polls = self.options.polled && !self.options.submission_thread;
        if self.unsubmitted > 0 || polls || waits(&mut self.ring) {
            self.enter(0);
        }
    }

    /// Returns what is readable once there is something to take or to [drive](Self::drive); `None` when there is already.
    pub(super) fn signal(&self) -> Option<BorrowedFd<'_>> {
        // What signalled until now is seen below, and what comes later signals anew.
        let _ = self.signal.read();
        // SAFETY: no other view of either queue exists while this one does: none is kept, and this is the ring's thread.
        let (entries, completions) =
            unsafe { (self.ring.submission_shared(), self.ring.completion_shared()) };
        let waits = !completions.is_empty() || entries.taskrun() || entries.cq_overflow();
        (!waits && self.unsubmitted == 0).then(|| self.signal.as_fd())
    }

    /// Cancels what can be, and waits until nothing is pending any more. Takes as long as the device does.
    pub(super) fn cancel(&mut self) {
        while self.pending > 0 {
            // What does not listen to this ends by itself.
            let _ = self
                .ring
                .submitter()
                .register_sync_cancel(None, CancelBuilder::any());
            self.enter(1);
            while self.next().is_some() {}
        }
    }

    /// Submits what was pushed and waits for `want` completions.
    fn enter(&mut self, want: usize) {
        self.enable();
        let mut flags = EnterFlags::GETEVENTS;
        if self.options.submission_thread {
            self.unsubmitted = 0;
            if self.ring.submission().need_wakeup() {
                flags |= EnterFlags::SQ_WAKEUP;
            } else if want == 0 {
                return;
            }
        }
        self.system_calls += 1;
        let submitter = self.ring.submitter();
        let (entries, want) = (self.unsubmitted as u32, want as u32);
        // SAFETY: no argument is a pointer.
        let entered =
            unsafe { submitter.enter::<libc::sigset_t>(entries, want, flags.bits(), None) };
        // What is left, after a signal or without memory, is submitted with the next.
        self.unsubmitted -= entered.unwrap_or(0).min(self.unsubmitted);
    }

    /// Makes this thread the only issuer.
    #[inline]
    fn enable(&mut self) {
        if !self.enabled {
            self.system_calls += 1;
            // Should that fail, so does each entry: the ring stays disabled.
            self.enabled = self.ring.submitter().register_enable_rings().is_ok();
        }
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> std::fmt::Debug for Ring<S, C> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Ring");
        shown.field("options", &self.options);
        shown
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_no_entry_that_opens_a_file() {
        let file = tempfile::tempfile().unwrap();
        let options = RingOptions::default();
        let ring = Ring::<squeue::Entry, cqueue::Entry>::new(file.as_fd(), options);
        let mut ring = ring.unwrap();
        let path = c"/dev/null";
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
        let nothing = opcode::Nop::new().build();
        for (entry, result) in [(open, -libc::EACCES), (nothing, 0)] {
            // SAFETY: the path lives through the test.
            assert!(unsafe { ring.push(entry, 1) });
            ring.enter(1);
            assert_eq!(ring.next(), Some((1, result)));
        }
    }
}
