//! Ctrl-C, SIGTERM and SIGHUP as a question instead of a sudden end, so that servers are always
//! torn down and finished rounds are kept.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals could not be redirected.
#[derive(Debug, thiserror::Error)]
#[error("Ctrl-C: signals cannot be read from a file descriptor: {0}; see `man signalfd`")]
pub struct InterruptError(#[from] Errno);

/// Holds back the ending signals of the calling thread, and of threads it starts later, until it
/// is dropped. Children started meanwhile are not affected.
#[derive(Debug)]
pub struct Interrupt {
    signals: SignalFd,
    mask: SigSet,
    seen: AtomicBool,
}

impl Interrupt {
    /// Blocks the signals and opens the file descriptor that tells about them.
    ///
    /// # Errors
    /// What `pthread_sigmask` or `signalfd` answer; nothing is changed for the caller to undo.
    pub fn install() -> Result<Self, InterruptError> {
        let mask: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        mask.thread_block()?;
        Ok(Self {
            signals,
            mask,
            seen: AtomicBool::new(false),
        })
    }

    /// True once one of the signals has come.
    pub fn requested(&self) -> bool {
        // Reads every waiting signal, so that none is left to end the process when we are dropped.
        while let Ok(Some(_)) = self.signals.read_signal() {
            self.seen.store(true, Ordering::Relaxed);
        }
        self.seen.load(Ordering::Relaxed)
    }

    /// Sleeps for `duration`, or until a first signal comes.
    pub fn sleep(&self, duration: Duration) {
        let end = Instant::now() + duration;
        let already = self.seen.load(Ordering::Relaxed);
        loop {
            let requested = self.requested();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || (requested && !already) {
                return;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            // Any result is fine: the loop looks at the clock and the signals again.
            let _ = poll(&mut fds, timeout);
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.requested();
        // Fails only for an invalid mask, and this one was accepted before.
        let _ = self.mask.thread_unblock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::pthread::{pthread_kill, pthread_self};

    #[test]
    fn a_signal_ends_the_sleep_and_is_remembered() {
        let interrupt = Interrupt::install().unwrap();
        assert!(!interrupt.requested());
        pthread_kill(pthread_self(), Signal::SIGINT).unwrap();
        let start = Instant::now();
        interrupt.sleep(Duration::from_secs(20));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(interrupt.requested());
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        let start = Instant::now();
        interrupt.sleep(Duration::from_millis(50));
        assert!(start.elapsed() >= Duration::from_millis(50));
        // A second signal must not end this process when the block is lifted.
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        drop(interrupt);
    }
}
