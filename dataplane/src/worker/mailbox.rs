//! How control talks to a worker that never waits for it: two bounded queues and two eventfds.
//!
//! A worker looks into its mailbox once a pass; one that sleeps is woken by an eventfd that it always
//! sleeps on, so no command is overlooked. Each answer carries the number of its command: one that
//! comes too late is recognised and dropped.

#[cfg(not(loom))]
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use super::primitive::{ArrayQueue, AtomicU64, Ordering, Signal};
use super::{QueueSetup, Report};
use crate::blk::Geometry;
use crate::inflight::QueueLog;
use crate::limits::MAILBOX_COMMANDS_MAX;
use crate::mem::RegionTable;
use crate::ring::{RingState, SetupError};
use crate::stats::Histogram;

/// What control asks of a worker.
#[derive(Debug)]
pub enum Command {
    /// Serve the queue at this place, after stopping the one served before. Answered by
    /// [`Answer::Started`].
    Start(Box<QueueSetup>),
    /// Serve the queue at this place where a worker that was killed left it, and interrupt its driver. Answered
    /// by [`Answer::Started`].
    TakeOver(Box<QueueSetup>),
    /// Find out where a worker that was killed left the queue at this place, which rests until the next
    /// `Remap`. Answered by [`Answer::Started`].
    Recover(Box<QueueSetup>),
    /// Finish what is in flight, then forget the queue and its memory. Answered by
    /// [`Answer::Stopped`].
    Stop,
    /// Finish what is in flight, then let go of the queue, with its log as it is: another process takes it over. One
    /// with more in flight than it can finish in time goes on. Answered by [`Answer::Left`].
    Leave,
    /// Finish what is in flight, then let the queue rest until the next `Remap`, without its memory. Should
    /// this process be killed meanwhile, the next one knows where. Answered by [`Answer::Stopped`].
    Pause,
    /// The same, but a queue with more in flight than it can finish in time goes on. Answered by [`Answer::Stopped`], or by
    /// [`Answer::Left`] with false.
    TryPause,
    /// Finish what is in flight, then use this memory. Answered by [`Answer::Started`], with zeros
    /// when no queue is served. A queue that is not in this memory rests until the next `Remap`; one
    /// that the driver broke stays broken.
    Remap(Arc<RegionTable>),
    /// From the next request on the disk is like this. One that shrinks lets the backend finish what is in
    /// flight before. Answered by [`Answer::Resized`].
    Resize(Geometry),
    /// Tell how long requests have been in flight. Answered by [`Answer::Alive`].
    Beat,
    /// Give up what is in flight and answer it with an error, if any of it has been for `beats` beats, or that is 0. Answered by
    /// [`Answer::Abandoned`].
    Abandon {
        /// That number.
        beats: u32,
        /// Whether all that comes until the next `Start` fails, too, then.
        refuse: bool,
    },
    /// Leave the queue, and write down there what is in flight in the next ones, or nowhere. Answered by
    /// [`Answer::Logging`].
    Log(Option<Box<QueueLog>>),
    /// Report latencies into this empty histogram's place. Answered by [`Answer::Latency`].
    Latency(Box<Histogram>),
    /// End the thread. Answered by its end.
    Exit,
}

/// What a worker answers.
#[derive(Debug)]
pub enum Answer {
    /// The queue is served from here on, or cannot be.
    Started(Result<RingState, SetupError>),
    /// No thread touches the queue or its memory any more.
    Stopped(Report),
    /// Whether the queue was let go of.
    Left(bool),
    /// No request beyond the end of the disk is in the backend, or will be.
    Resized,
    /// How many beats there were since the oldest request in flight was taken, this one included; 0 when there
    /// is none.
    Alive {
        /// That number.
        oldest_beats: u32,
    },
    /// How many requests were given up.
    Abandoned(usize),
    /// What is in flight is written down there, or nowhere.
    Logging,
    /// What was measured since the last time.
    Latency {
        /// Latencies.
        histogram: Box<Histogram>,
        /// Requests that the backend has now.
        in_flight: usize,
    },
}

/// The worker did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It is stuck in its backend, or has ended.
    #[error("a worker did not answer in time")]
    Late,
    /// It did not even look at the commands before this one.
    #[error("a worker does not look at its commands")]
    Full,
}

#[derive(Debug)]
struct Shared {
    commands: ArrayQueue<(u64, Command)>,
    answers: ArrayQueue<(u64, Answer)>,
    /// Commands posted so far: one shared load tells a busy worker that there is nothing new.
    posted: AtomicU64,
    wake_worker: Arc<Signal>,
    wake_control: Signal,
}

/// Control's end.
#[derive(Debug)]
pub struct Mailbox {
    shared: Arc<Shared>,
}

/// The worker's end.
#[derive(Debug)]
pub struct WorkerEnd {
    shared: Arc<Shared>,
    taken: u64,
}

impl Mailbox {
    /// Returns the two ends of a new mailbox.
    ///
    /// # Errors
    ///
    /// When no eventfd can be had.
    pub fn new() -> nix::Result<(Self, WorkerEnd)> {
        Self::waking(Arc::new(Signal::new()?))
    }

    /// The same for a worker that sleeps on `wake_worker`, perhaps with others.
    pub(super) fn waking(wake_worker: Arc<Signal>) -> nix::Result<(Self, WorkerEnd)> {
        let shared = Arc::new(Shared {
            commands: ArrayQueue::new(MAILBOX_COMMANDS_MAX),
            // One more than commands, so that a worker can always answer.
            answers: ArrayQueue::new(MAILBOX_COMMANDS_MAX + 1),
            posted: AtomicU64::new(0),
            wake_worker,
            wake_control: Signal::new()?,
        });
        Ok((
            Self {
                shared: Arc::clone(&shared),
            },
            WorkerEnd { shared, taken: 0 },
        ))
    }

    /// Posts `command`. Returns its number, to wait for.
    ///
    /// # Errors
    ///
    /// [`Unanswered::Full`] when the worker left too many commands unread.
    pub fn post(&self, command: Command) -> Result<u64, Unanswered> {
        // Only one thread posts, so the number is its own.
        let number = self.shared.posted.load(Ordering::Relaxed) + 1;
        self.shared
            .commands
            .push((number, command))
            .map_err(|_| Unanswered::Full)?;
        // Release: pairs with the Acquire load in `take`.
        self.shared.posted.store(number, Ordering::Release);
        self.shared.wake_worker.raise();
        Ok(number)
    }

    /// Waits for the answer to command `number` until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Unanswered::Late`] when it did not come.
    pub fn wait(&self, number: u64, deadline: Instant) -> Result<Answer, Unanswered> {
        loop {
            while let Some((answered, answer)) = self.shared.answers.pop() {
                if answered == number {
                    return Ok(answer);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Unanswered::Late);
            }
            if self.shared.wake_control.wait(left).is_err() {
                return Err(Unanswered::Late);
            }
            // Cleared before the queue is looked at again, so that no answer is overlooked.
            self.shared.wake_control.clear();
        }
    }
}

impl WorkerEnd {
    /// Takes the next command and its number. Costs one load when there is none.
    #[inline]
    pub fn take(&mut self) -> Option<(u64, Command)> {
        // Acquire: pairs with the Release store in `post`; the command is in the queue by then.
        if self.shared.posted.load(Ordering::Acquire) == self.taken {
            return None;
        }
        let (number, command) = self.shared.commands.pop()?;
        self.taken = number;
        Some((number, command))
    }

    /// Answers command `number`. An answer that control has no room for is one that it gave up.
    pub fn answer(&self, number: u64, answer: Answer) {
        let _ = self.shared.answers.force_push((number, answer));
        self.shared.wake_control.raise();
    }

    /// Returns the eventfd that is signalled by each command.
    #[cfg(not(loom))]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake_worker.as_fd()
    }

    /// Sleeps until there is a command: what a worker's poll(2) comes to with nothing else to wake it.
    #[cfg(loom)]
    pub fn sleep(&self) {
        let _ = self.shared.wake_worker.wait(std::time::Duration::MAX);
    }

    /// Clears the eventfd. Call [`take`](Self::take) after this, not before.
    pub fn clear_wake(&self) {
        self.shared.wake_worker.clear();
    }
}
