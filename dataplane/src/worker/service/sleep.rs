//! How a worker sleeps: with the kick armed, and never past a request. A thread that has one queue waits for it here; one
//! that has many arms each.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Service;
use crate::backend::BackendQueue;
use crate::worker::{Notifier, PollMode, Poller, WorkerEnd};

impl<Q: BackendQueue, N: Notifier> Service<Q, N> {
    /// Sleeps until there is a command, a kick or a completion.
    pub(super) fn sleep(&mut self) {
        if self.poller.as_ref().is_some_and(Poller::is_running) && !self.arm() {
            return;
        }
        let in_flight = self.poller.as_ref().map_or(0, Poller::in_flight);
        let completions = self.backend.completion_fd();
        if in_flight > 0 && completions.is_none() {
            // There is one since this was decided.
            return self.disarm();
        }
        self.counters.sleeps.add(1);
        if in_flight == 0 {
            self.asleep.begin();
        }
        let kick = self.kick_fd();
        let kicked = wait(&self.end, kick, completions);
        self.asleep.end();
        self.end.clear_wake();
        if kicked {
            self.counters.kicks.add(count(kick));
        }
        self.disarm();
    }

    /// Asks for kicks. Returns whether it is safe to sleep.
    pub(in crate::worker) fn arm(&mut self) -> bool {
        if !self.listening && self.notifier.driver_kick().is_none() {
            if self.notifier.listen(Some(self.kick.as_fd())).is_err() {
                return false;
            }
            self.listening = true;
        }
        let Some(poller) = &mut self.poller else {
            return true;
        };
        match poller.request_kick() {
            Ok(false) => true,
            // A request came in between, or the next pass finds out what is wrong.
            Ok(true) | Err(_) => {
                poller.suppress_kicks();
                false
            }
        }
    }

    fn disarm(&mut self) {
        self.idle.busy();
        self.suppress_kicks();
        // An event-driven worker is about to sleep again: it leaves its eventfd where it is.
        if self.listening && self.idle.mode() != PollMode::Event {
            self.listening = self.notifier.listen(None).is_err();
        }
    }

    pub(in crate::worker) fn suppress_kicks(&mut self) {
        if let Some(poller) = &mut self.poller {
            poller.suppress_kicks();
        }
    }

    /// Returns what kicks signal.
    pub(in crate::worker) fn kick_fd(&self) -> BorrowedFd<'_> {
        self.notifier.driver_kick().unwrap_or(self.kick.as_fd())
    }
}

/// Waits for any of the three. Returns whether it was a kick.
fn wait(end: &WorkerEnd, kick: BorrowedFd<'_>, completions: Option<BorrowedFd<'_>>) -> bool {
    let readable = PollFlags::POLLIN;
    let other = completions.unwrap_or_else(|| end.wake_fd());
    let mut fds = [
        PollFd::new(kick, readable),
        PollFd::new(end.wake_fd(), readable),
        PollFd::new(other, readable),
    ];
    // An interrupted wait is a short one.
    let _ = poll(&mut fds, PollTimeout::NONE);
    fds[0].any().unwrap_or(false)
}

/// Takes what was signalled. What is no eventfd counts as a kick.
pub(in crate::worker) fn count(kick: BorrowedFd<'_>) -> u64 {
    let mut signalled = [0; 8];
    match nix::unistd::read(kick, &mut signalled) {
        Ok(8) => u64::from_ne_bytes(signalled),
        Err(Errno::EAGAIN) => 0,
        Ok(_) | Err(_) => 1,
    }
}
