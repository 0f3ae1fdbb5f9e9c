//! The control thread of a device: everything that can wake it, in one loop.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use pollux_dataplane::backend::Backend;
use pollux_dataplane::blk::Features;
use pollux_dataplane::limits::DRAIN_MS_MAX;
use pollux_dataplane::mem::RegionTable;
use pollux_dataplane::worker::PollMode;
use tracing::error;
use vduse::Device;
use vduse::sysfs::Sysfs;

use super::handle::Ask;
use super::interrupts::QueueInterrupts;
use super::moment::Moment;
use super::renew::Recipe;
use super::trace::Trace;
use super::umem::Umem;
use super::workers::{Start, Workers};
use super::{Created, DeviceOptions, DeviceSnapshot, DeviceStatus, Disk, InterruptCpus, UmemKind};
use crate::vdpa::{self, Driver};

/// How often queues that are not ready yet are looked at.
const READY_POLL_MS: u8 = 5;

/// How often it is seen how deep a driver's queues are, and whether one that makes no request does: soon enough for a
/// person, rare enough to cost nothing.
const SLOW_POLL_MS: u8 = 100;

/// Whose event it is.
const DEVICE: u64 = 0;
const WAKE: u64 = 1;

/// How often workers are looked after.
const WATCH_POLL_MS: u8 = 250;

/// How often those are looked after that all rest, and tell when they wake: a daemon may have hundreds of such devices, and
/// only a thread that they share may be stuck.
pub(super) const REST_POLL_MS: u16 = 10_000;

/// What can happen to a control thread.
enum Event {
    Message,
    Asked,
    Broken,
    Tick,
}

pub(super) struct ControlThread {
    pub(super) options: DeviceOptions,
    pub(super) disk: Disk,
    pub(super) trace: Trace,
    /// As the driver knows it.
    pub(super) capacity_bytes: u64,
    pub(super) device: Arc<Device>,
    pub(super) offered: Features,
    pub(super) workers: Workers,
    wake: Arc<EventFd>,
    inbox: Receiver<Ask>,
    pub(super) status: DeviceStatus,
    pub(super) features: Features,
    /// The driver's memory, the same that the workers use.
    pub(super) table: Arc<RegionTable>,
    /// Where the interrupts of each queue that is served are handled.
    pub(super) interrupts: Vec<QueueInterrupts>,
    /// Queues that may become ready, and are looked at until they are.
    pub(super) awaited: BTreeSet<usize>,
    /// Until when, if nothing tells.
    pub(super) ready_until: Option<Instant>,
    /// The driver has suspended the device, until its reset.
    pub(super) suspended: bool,
    /// A person has paused the device: workers have left the queues where they were.
    pub(super) paused: bool,
    /// All workers rest, and tell when they wake.
    resting: bool,
    /// What to put in place of the bounce pages.
    pub(super) umem: Umem,
    /// How to start the queues once the driver has made its first request, before which that is not possible.
    pub(super) waiting: Option<Start>,
    /// Why the driver was refused, or the device is broken.
    pub(super) problem: Option<String>,
    pub(super) broken: bool,
    pub(super) taken_over: bool,
    /// Times that a driver reset the device.
    pub(super) resets: u64,
    /// When queues were last started.
    pub(super) served_at: Moment,
    /// It was attached since it was made, or may have been.
    pub(super) was_attached: bool,
    pub(super) recipe: Recipe,
    /// Its driver is to let go, which it does only when all that it has asked for is finished.
    pub(super) leaving: bool,
}

impl ControlThread {
    pub(super) fn new(
        options: DeviceOptions,
        disk: Disk,
        created: &Created,
        device: Arc<Device>,
        workers: Workers,
        wake: Arc<EventFd>,
        inbox: Receiver<Ask>,
    ) -> Self {
        Self {
            offered: Features::offered(disk.geometry(), options.queues, options.ring_features),
            capacity_bytes: disk.geometry().size_bytes(),
            disk,
            trace: created.trace().clone(),
            options,
            device,
            workers,
            wake,
            inbox,
            status: DeviceStatus::default(),
            features: Features::empty(),
            table: Arc::default(),
            interrupts: Vec::new(),
            awaited: BTreeSet::new(),
            ready_until: None,
            suspended: false,
            paused: false,
            resting: false,
            umem: Umem::default(),
            waiting: None,
            problem: None,
            broken: false,
            taken_over: false,
            resets: 0,
            served_at: Moment::now(),
            was_attached: false,
            recipe: created.recipe().clone(),
            leaving: false,
        }
    }

    /// Serves until it is told to end. Returns whether all threads ended.
    pub(super) fn run(mut self) -> bool {
        let looped = self.serve();
        if let Err(errno) = looped {
            error!(device = %self.options.name, "the control thread cannot go on: {errno}");
        }
        self.workers.stop();
        let ended = self.workers.end();
        looped.is_ok() && ended
    }

    fn serve(&mut self) -> nix::Result<()> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        self.listen(&epoll)?;
        epoll.add(
            self.wake.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN, WAKE),
        )?;
        loop {
            let mut ready = [EpollEvent::empty(); 2];
            let count = match epoll.wait(&mut ready, self.timeout()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let events = ready[..count].iter().map(|event| match event.data() {
                DEVICE if event.events().contains(EpollFlags::EPOLLERR) => Event::Broken,
                DEVICE => Event::Message,
                _ => Event::Asked,
            });
            // Not before a while has passed since the last event: a worker that sleeps between requests would tell of each.
            self.resting = false;
            for event in events.chain((count == 0).then_some(Event::Tick)) {
                match event {
                    Event::Message => self.answer_messages(),
                    Event::Broken => {
                        epoll.delete(self.device.as_fd())?;
                        self.set_broken();
                    }
                    Event::Asked if self.answer_asks(&epoll)? => return Ok(()),
                    Event::Asked => {}
                    Event::Tick => self.tick(),
                }
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let follows = self.options.interrupt_cpus == InterruptCpus::Auto;
        let first_requests = self.waiting.is_some() && self.ready_until.is_some();
        if first_requests || !self.awaited.is_empty() {
            EpollTimeout::from(READY_POLL_MS)
        } else if self.waiting.is_some() {
            EpollTimeout::from(SLOW_POLL_MS)
        } else if self.resting {
            EpollTimeout::from(REST_POLL_MS)
        } else if follows && !self.interrupts.is_empty() {
            EpollTimeout::from(SLOW_POLL_MS)
        } else if self.workers.need_watch() {
            EpollTimeout::from(WATCH_POLL_MS)
        } else {
            EpollTimeout::NONE
        }
    }

    fn tick(&mut self) {
        if let Some(start) = self.waiting {
            self.ready_until = self.ready_until.filter(|until| Instant::now() < *until);
            self.register_umem(start);
        } else if !self.awaited.is_empty() {
            self.start_ready_queues(Start::Fresh);
        }
        let drained = self.leaving.then_some(Duration::from_millis(DRAIN_MS_MAX));
        let limits = [self.options.io_timeout, drained].into_iter().flatten();
        self.workers.watch(limits.min(), self.leaving);
        self.disk.tell_event(&self.options.name);
        let (name, wanted) = (&self.options.name, &self.options.interrupt_cpus);
        let cpus = self.workers.cpus();
        for queue in &mut self.interrupts {
            let depth = self.workers.depth(queue.index());
            queue.follow(depth, name, wanted, &cpus);
        }
        self.resting = self.workers.rest();
    }

    /// Answers what other threads ask. Returns whether to end.
    fn answer_asks(&mut self, epoll: &Epoll) -> nix::Result<bool> {
        // Cleared before the inbox is looked at, so that no ask is overlooked.
        let _ = self.wake.read();
        while let Ok(ask) = self.inbox.try_recv() {
            match ask {
                Ask::Snapshot(answer) => drop(answer.send(self.snapshot())),
                Ask::HandOver(answer) => {
                    let left = self.hand_over();
                    let ends = left.is_some();
                    let _ = answer.send(left);
                    if ends {
                        return Ok(true);
                    }
                }
                Ask::Resize {
                    size_bytes,
                    force,
                    answer,
                } => drop(answer.send(self.resize(size_bytes, force))),
                Ask::Renew(answer) => {
                    // It is not there when the device is broken.
                    let _ = epoll.delete(self.device.as_fd());
                    let renewed = self.renew();
                    if !self.broken {
                        self.listen(epoll)?;
                    }
                    let _ = answer.send(renewed);
                }
                // A guest's driver leaves whatever is in flight.
                Ask::Leaving(leaving) => {
                    self.leaving = leaving
                        && vdpa::bound(&self.options.name)
                            .is_none_or(|bound| bound.driver == Driver::Virtio);
                    if leaving {
                        // It waits for what it has asked for.
                        self.go_on();
                    }
                }
                Ask::Pause(answer) => drop(answer.send(self.pause())),
                Ask::Resume(answer) => {
                    self.go_on();
                    let _ = answer.send(Ok(()));
                }
                Ask::Alive(answer) => drop(answer.send(())),
                Ask::End => return Ok(true),
            }
        }
        Ok(false)
    }

    fn listen(&self, epoll: &Epoll) -> nix::Result<()> {
        // EPOLLERR, which means broken, comes unasked.
        let event = EpollEvent::new(EpollFlags::EPOLLIN, DEVICE);
        epoll.add(self.device.as_fd(), event)
    }

    /// Lets go of all queues, for the next daemon. Returns since when they rest; none if one has too much in flight:
    /// all go on then.
    fn hand_over(&mut self) -> Option<Moment> {
        let since = Moment::now();
        if self.workers.leave() {
            self.interrupts.clear();
            self.disk.release();
            return Some(since);
        }
        self.start_queues(Start::TakenOver);
        None
    }

    /// Returns why the daemon's memory is not used as was asked.
    fn umem_reason(&self) -> Option<&str> {
        if !self.umem.is_wanted() || self.umem.kind() != UmemKind::Off {
            self.umem.reason()
        } else if self.waiting.is_some() {
            Some("the driver has made no request yet")
        } else if self.status.is_driver_ok() {
            Some("a guest's memory is used as it is, there are no bounce pages to be replaced")
        } else {
            Some("there is no driver")
        }
    }

    fn set_broken(&mut self) {
        self.broken = true;
        let problem = "the kernel gave the device up after an answer took too long: detach it and \
                       attach it again";
        error!(device = %self.options.name, "{problem}");
        self.problem = Some(problem.into());
    }

    fn snapshot(&mut self) -> DeviceSnapshot {
        let attached = vdpa::bound(&self.options.name);
        let state = match (self.broken, &self.problem, self.status) {
            (true, _, _) => "broken",
            (false, Some(_), _) => "refused",
            (false, None, _) if self.suspended => "suspended",
            (false, None, _) if self.paused => "paused",
            (false, None, status) if status.is_driver_ok() => "running",
            (false, None, status) if !status.has_driver() => "reset",
            _ => "probing",
        };
        DeviceSnapshot {
            name: self.options.name.to_string(),
            backend: self.options.backend.to_string(),
            capacity_bytes: self.capacity_bytes,
            status: self.status.bits(),
            state: state.into(),
            problem: self.problem.clone(),
            features: self.features.bits(),
            driver: attached
                .as_ref()
                .map(|attached| attached.driver.to_string()),
            node: attached
                .and_then(|attached| attached.node)
                .map(|node| node.display().to_string()),
            pool: self.options.pool.clone(),
            mode: match self.options.mode {
                PollMode::Busy => "busy",
                PollMode::Adaptive(_) => "adaptive",
                PollMode::Event => "event",
            }
            .into(),
            msg_timeout_s: Sysfs::new(&self.options.name).msg_timeout_s().ok(),
            io_timeout_s: self.options.io_timeout.map(|time| time.as_secs()),
            taken_over: self.taken_over,
            api_version: self.recipe.protocol.api_version,
            protocol_features: self.recipe.protocol.feature_names(),
            bounce_size_bytes: Sysfs::new(&self.options.name).bounce_size_bytes().ok(),
            umem: self.umem.kind(),
            umem_reason: self.umem_reason().map(Into::into),
            resets: self.resets,
            recoveries: self.taken_over.into(),
            queues: self.workers.stats(),
        }
    }
}
