//! A thread that serves many queues in turn, as SPDK's reactors do: a pass each, so that a deep one takes no more than its
//! share. When there is nothing to do in any it sleeps on all of them at once.
//!
//! A backend that holds its caller up holds up every queue of the thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crossbeam::queue::SegQueue;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use quanta::Clock;

use super::primitive::Signal;
use super::service::{self, ServiceConfig};
use super::thread::start;
use super::{
    Asleep, Host, Idle, IdlePolicy, Mailbox, Notifier, PollMode, SpawnError, ThreadConfig, Worker,
};
use crate::backend::BackendQueue;
use tenant::{Member, Tenant, Turn};

mod tenant;

/// Whose event it is, where not a queue's.
const WAKE: u64 = u64::MAX;

/// Events taken from the kernel at once. The others come with the next call.
const EVENTS: usize = 64;

/// What puts a queue's service together on the thread.
type Arrival = Box<dyn FnOnce() -> Lodged + Send>;

/// What the thread and those who talk to it share.
struct Inbox {
    arrivals: SegQueue<Arrival>,
    wake: Arc<Signal>,
    /// No queue comes any more.
    closed: AtomicBool,
    asleep: Arc<AtomicBool>,
    /// Queues that are there or on their way.
    queues: AtomicUsize,
}

/// A thread that serves many queues. Dropping it ends it once it has none.
pub struct SharedThread {
    inbox: Arc<Inbox>,
    mode: PollMode,
    cpu: Option<usize>,
}

impl fmt::Debug for SharedThread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("SharedThread");
        debug.field("cpu", &self.cpu).field("mode", &self.mode);
        debug.finish_non_exhaustive()
    }
}

impl SharedThread {
    /// Starts the thread, without any queue.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when it cannot be had or pinned; nothing runs then.
    pub fn spawn(config: ThreadConfig) -> Result<Self, SpawnError> {
        let (cpu, mode) = (config.cpu, config.mode);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(SpawnError::EventFd)?;
        let wake = Arc::new(Signal::new().map_err(SpawnError::EventFd)?);
        let event = EpollEvent::new(EpollFlags::EPOLLIN, WAKE);
        epoll
            .add(wake.as_fd(), event)
            .map_err(SpawnError::EventFd)?;
        let inbox = Arc::new(Inbox {
            arrivals: SegQueue::new(),
            wake,
            closed: AtomicBool::new(false),
            asleep: Arc::default(),
            queues: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&inbox);
        start(config, move || Reactor::new(shared, epoll, mode).run())?;
        Ok(Self { inbox, mode, cpu })
    }

    /// Returns the CPU that it was told to stay on.
    pub fn cpu(&self) -> Option<usize> {
        self.cpu
    }

    /// Returns how many queues it has.
    pub fn queues(&self) -> usize {
        self.inbox.queues.load(Ordering::Relaxed)
    }

    /// Adds a worker, which waits for a queue to serve.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when no eventfd can be had.
    pub(super) fn add<Q, N>(
        &self,
        service: ServiceConfig,
        backend: Q,
        notifier: N,
    ) -> Result<Worker, SpawnError>
    where
        Q: BackendQueue + 'static,
        N: Notifier + 'static,
    {
        let wake = Arc::clone(&self.inbox.wake);
        let (mailbox, end) = Mailbox::waking(wake).map_err(SpawnError::EventFd)?;
        let (shown, make) = service::prepare(service, self.mode, false, end, backend, notifier)
            .map_err(SpawnError::EventFd)?;
        self.inbox.queues.fetch_add(1, Ordering::Relaxed);
        let stay = Arc::new(Stay {
            state: AtomicU8::new(Stay::LASTS),
            inbox: Arc::clone(&self.inbox),
        });
        let mark = EndMark(Arc::clone(&stay));
        self.inbox.arrivals.push(Box::new(move || Lodged {
            member: Box::new(Tenant::new(make())),
            _mark: mark,
        }));
        self.inbox.wake.raise();
        Ok(Worker {
            mailbox,
            counters: shown.counters,
            fault: shown.fault,
            depth: shown.depth,
            asleep: Asleep {
                thread: Arc::clone(&self.inbox.asleep),
                queue: shown.asleep,
            },
            host: Host::Shared(stay),
        })
    }
}

impl Drop for SharedThread {
    fn drop(&mut self) {
        // Release: pairs with the load in `Reactor::run`; whatever was added is in the queue by then.
        self.inbox.closed.store(true, Ordering::Release);
        self.inbox.wake.raise();
    }
}

/// How long a worker is on a thread that it shares.
pub struct Stay {
    state: AtomicU8,
    inbox: Arc<Inbox>,
}

impl fmt::Debug for Stay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Stay");
        debug.field("is_over", &self.is_over());
        debug.finish_non_exhaustive()
    }
}

impl Stay {
    const LASTS: u8 = 0;
    const OVER: u8 = 1;
    const PANICKED: u8 = 2;

    /// Returns whether the thread has nothing of it any more.
    pub fn is_over(&self) -> bool {
        // Acquire: pairs with the Release in `EndMark`; what the worker had is gone by then.
        self.state.load(Ordering::Acquire) != Self::LASTS
    }

    /// Returns whether it did not end with a panic of the thread.
    pub fn is_sound(&self) -> bool {
        self.state.load(Ordering::Acquire) != Self::PANICKED
    }
}

/// Dropped when a worker's stay is over, however it ends.
struct EndMark(Arc<Stay>);

impl Drop for EndMark {
    fn drop(&mut self) {
        let state = match std::thread::panicking() {
            true => Stay::PANICKED,
            false => Stay::OVER,
        };
        self.0.inbox.queues.fetch_sub(1, Ordering::Relaxed);
        self.0.state.store(state, Ordering::Release);
    }
}

/// A member, and what tells when it is gone: fields are dropped in their order.
struct Lodged {
    member: Box<dyn Member>,
    _mark: EndMark,
}

/// What a round over all queues came to: the busiest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    Nothing,
    Idle,
    Holding,
    Busy,
}

/// The thread's own side.
struct Reactor {
    inbox: Arc<Inbox>,
    epoll: Epoll,
    /// Those that are gone leave a gap, which the next one takes: places are the data of events.
    members: Vec<Option<Lodged>>,
    idle: IdlePolicy,
    clock: Clock,
}

impl Reactor {
    fn new(inbox: Arc<Inbox>, epoll: Epoll, mode: PollMode) -> Self {
        Self {
            inbox,
            epoll,
            members: Vec::new(),
            idle: IdlePolicy::new(mode),
            clock: Clock::new(),
        }
    }

    fn run(mut self) {
        loop {
            while !self.inbox.arrivals.is_empty() {
                self.admit();
            }
            match self.round() {
                Round::Busy => self.idle.busy(),
                Round::Holding => {}
                Round::Idle => {
                    let queues = self.members.len();
                    if self.idle.idle_round(queues, || self.clock.now()) == Idle::Sleep {
                        self.sleep();
                    }
                }
                Round::Nothing => {
                    // Acquire: pairs with the Release in `SharedThread::drop`.
                    let closed = self.inbox.closed.load(Ordering::Acquire);
                    let is_empty = self.members.iter().all(Option::is_none);
                    if closed && is_empty && self.inbox.arrivals.is_empty() {
                        return;
                    }
                    self.sleep();
                }
            }
        }
    }

    #[cold]
    fn admit(&mut self) {
        let Some(arrival) = self.inbox.arrivals.pop() else {
            return;
        };
        let lodged = Some(arrival());
        match self.members.iter().position(Option::is_none) {
            Some(gap) => self.members[gap] = lodged,
            None => self.members.push(lodged),
        }
    }

    /// Gives each queue its turn.
    fn round(&mut self) -> Round {
        let mut round = Round::Nothing;
        for place in &mut self.members {
            let Some(lodged) = place else { continue };
            let turn = match lodged.member.turn(&self.epoll) {
                Turn::Nothing => Round::Nothing,
                Turn::Idle => Round::Idle,
                Turn::Holding => Round::Holding,
                Turn::Busy => Round::Busy,
                Turn::Gone => {
                    *place = None;
                    continue;
                }
            };
            round = round.max(turn);
        }
        round
    }

    /// Sleeps until something can be done for any queue, unless there is by the time that all are armed.
    fn sleep(&mut self) {
        for (place, lodged) in (0..).zip(&mut self.members) {
            if let Some(lodged) = lodged
                && !lodged.member.arm(&self.epoll, place)
            {
                return;
            }
        }
        let mut events = [EpollEvent::empty(); EVENTS];
        self.inbox.asleep.store(true, Ordering::Relaxed);
        // An interrupted wait is a short one.
        let count = self.epoll.wait(&mut events, EpollTimeout::NONE);
        self.inbox.asleep.store(false, Ordering::Relaxed);
        self.idle.busy();
        for event in &events[..count.unwrap_or(0)] {
            if event.data() == WAKE {
                // Before mailboxes and arrivals are looked at again, so that nothing there is overlooked.
                self.inbox.wake.clear();
                continue;
            }
            let woken = usize::try_from(event.data()).ok();
            let woken = woken.and_then(|place| self.members.get_mut(place)?.as_mut());
            if let Some(lodged) = woken {
                lodged.member.disarm(&self.epoll);
            }
        }
    }
}
