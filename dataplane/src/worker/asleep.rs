//! Whether a worker sleeps with nothing in flight, and who is told when it wakes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use nix::sys::eventfd::EventFd;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
/// Asleep, and its waking is to be told.
const WATCHED: u8 = 2;

/// The sleep of one worker. All of it is one word, so a wake-up is either told or seen.
#[derive(Debug)]
pub(super) struct Sleep {
    state: AtomicU8,
    told: Option<Arc<EventFd>>,
}

impl Sleep {
    /// Returns that of a worker that is awake. `told` is signalled when it wakes while it is watched.
    pub(super) fn new(told: Option<Arc<EventFd>>) -> Self {
        let state = AtomicU8::new(AWAKE);
        Self { state, told }
    }

    /// Says that the worker is about to sleep, with nothing in flight.
    pub(super) fn begin(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
    }

    /// Says that the worker is awake.
    pub(super) fn end(&self) {
        let before = self.state.swap(AWAKE, Ordering::Relaxed);
        if before == WATCHED
            && let Some(told) = &self.told
        {
            // Writing fails only when the counter is full, and then it is signalled anyway.
            let _ = told.write(1);
        }
    }

    fn watch(&self) -> bool {
        let (relaxed, asleep) = (Ordering::Relaxed, ASLEEP);
        let exchanged = self
            .state
            .compare_exchange(asleep, WATCHED, relaxed, relaxed);
        exchanged != Err(AWAKE)
    }

    fn is_now(&self) -> bool {
        self.state.load(Ordering::Relaxed) != AWAKE
    }
}

/// Whether a worker sleeps with nothing in flight, as control sees it.
#[derive(Clone, Debug)]
pub struct Asleep {
    pub(super) thread: Arc<AtomicBool>,
    pub(super) queue: Arc<Sleep>,
}

impl Asleep {
    /// Returns whether it does. Should it wake just now, that is not seen.
    pub fn get(&self) -> bool {
        self.thread.load(Ordering::Relaxed) && self.queue.is_now()
    }

    /// Returns whether nothing is in flight in its queue and a kick would tell of a request, though its thread may be awake
    /// for others. If so, [`ServiceConfig::woken`](super::ServiceConfig::woken) is signalled when that is over.
    pub fn watch(&self) -> bool {
        self.queue.watch()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::eventfd::EfdFlags;

    use super::*;

    #[test]
    fn one_that_is_watched_tells_once_that_it_woke() {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let told = Arc::new(EventFd::from_flags(flags).unwrap());
        let sleep = Sleep::new(Some(Arc::clone(&told)));
        assert!(!sleep.watch(), "it is awake");
        sleep.begin();
        sleep.end();
        assert!(told.read().is_err(), "nobody watched");
        sleep.begin();
        assert!(sleep.watch() && sleep.watch() && sleep.is_now());
        sleep.end();
        sleep.end();
        assert_eq!((told.read(), sleep.is_now()), (Ok(1), false));
        sleep.begin();
        sleep.end();
        assert!(told.read().is_err(), "it was watched for one sleep only");
    }

    /// A wake-up that is neither told nor seen would leave a busy worker unwatched.
    #[test]
    fn no_wake_up_is_overlooked() {
        let told = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap());
        let sleep = Arc::new(Sleep::new(Some(Arc::clone(&told))));
        let worker = Arc::clone(&sleep);
        let rounds = 20_000;
        let thread = std::thread::spawn(move || {
            for _ in 0..rounds {
                worker.begin();
                std::hint::spin_loop();
                worker.end();
            }
        });
        let mut watched = 0;
        while !thread.is_finished() {
            if sleep.watch() {
                watched += 1;
                // Blocks for ever if it is not told.
                assert_eq!(told.read(), Ok(1));
            }
        }
        thread.join().unwrap();
        assert!(!sleep.watch(), "{watched} times watched");
    }
}
