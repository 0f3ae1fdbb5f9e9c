//! What the mailbox is made of. Loom knows neither lock-free queues nor eventfds, so under `cfg(loom)`
//! stand-ins take their place and the very same mailbox is checked over them.

#[cfg(loom)]
pub(super) use model::{ArrayQueue, AtomicU64, Ordering, Signal};
#[cfg(not(loom))]
pub(super) use real::{ArrayQueue, AtomicU64, Ordering, Signal};

#[cfg(not(loom))]
mod real {
    //! What runs.

    pub(in super::super) use std::sync::atomic::{AtomicU64, Ordering};

    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::Duration;

    pub(in super::super) use crossbeam::queue::ArrayQueue;
    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::eventfd::{EfdFlags, EventFd};

    /// An eventfd: raised until it is cleared.
    #[derive(Debug)]
    pub(in super::super) struct Signal(EventFd);

    impl Signal {
        pub(in super::super) fn new() -> nix::Result<Self> {
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
        }

        pub(in super::super) fn raise(&self) {
            // Writing fails only when the counter is full, and then it is raised anyway.
            let _ = self.0.write(1);
        }

        pub(in super::super) fn clear(&self) {
            let _ = self.0.read();
        }

        /// Waits until it is raised or `timeout` is over; sometimes less.
        pub(in super::super) fn wait(&self, timeout: Duration) -> nix::Result<()> {
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => Ok(()),
                Err(errno) => Err(errno),
            }
        }

        pub(in super::super) fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

#[cfg(loom)]
mod model {
    //! What is checked: as ordered as the real ones and no more blocking, but nothing times out, so that a
    //! lost wake-up is a deadlock, which loom reports.

    pub(in super::super) use loom::sync::atomic::{AtomicU64, Ordering};

    use std::collections::VecDeque;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    #[derive(Debug)]
    pub(in super::super) struct ArrayQueue<T> {
        capacity: usize,
        entries: Mutex<VecDeque<T>>,
    }

    impl<T> ArrayQueue<T> {
        pub(in super::super) fn new(capacity: usize) -> Self {
            Self {
                capacity,
                entries: Mutex::new(VecDeque::new()),
            }
        }

        pub(in super::super) fn push(&self, entry: T) -> Result<(), T> {
            let mut entries = self.entries.lock().expect("no panic under this lock");
            if entries.len() == self.capacity {
                return Err(entry);
            }
            entries.push_back(entry);
            Ok(())
        }

        pub(in super::super) fn force_push(&self, entry: T) -> Option<T> {
            let mut entries = self.entries.lock().expect("no panic under this lock");
            let full = entries.len() == self.capacity;
            let oldest = if full { entries.pop_front() } else { None };
            entries.push_back(entry);
            oldest
        }

        pub(in super::super) fn pop(&self) -> Option<T> {
            let mut entries = self.entries.lock().expect("no panic under this lock");
            entries.pop_front()
        }
    }

    #[derive(Debug)]
    pub(in super::super) struct Signal {
        count: Mutex<u64>,
        raised: Condvar,
    }

    impl Signal {
        pub(in super::super) fn new() -> nix::Result<Self> {
            Ok(Self {
                count: Mutex::new(0),
                raised: Condvar::new(),
            })
        }

        pub(in super::super) fn raise(&self) {
            *self.count.lock().expect("no panic under this lock") += 1;
            self.raised.notify_all();
        }

        pub(in super::super) fn clear(&self) {
            *self.count.lock().expect("no panic under this lock") = 0;
        }

        pub(in super::super) fn wait(&self, _: Duration) -> nix::Result<()> {
            let mut count = self.count.lock().expect("no panic under this lock");
            while *count == 0 {
                count = self.raised.wait(count).expect("no panic under this lock");
            }
            Ok(())
        }
    }
}
