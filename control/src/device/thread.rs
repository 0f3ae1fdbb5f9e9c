//! The control thread of a device: answers the kernel, keeps the status, tells workers what to do.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use pollux_dataplane::blk::Features;
use pollux_dataplane::mem::{Iova, RegionTable};
use pollux_dataplane::ring::QueueConfig;
use pollux_dataplane::worker::{PollMode, QueueSetup};
use tracing::{debug, error, info, warn};
use vduse::{Device, QueueInfo, Reply, Request, RequestKind};

use super::workers::Workers;
use super::{Created, DeviceOptions, DeviceSnapshot, DeviceStatus, ServeError, memory};
use crate::vdpa;

/// How long after DRIVER_OK a queue may still become ready: some drivers enable theirs late.
const READY_WAIT: Duration = Duration::from_secs(1);
const READY_POLL_MS: u8 = 5;

/// How long an answer of the control thread is waited for. A worker's bound, and some.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(20);

/// What others ask of the control thread.
enum Ask {
    Snapshot(Sender<DeviceSnapshot>),
    End,
}

/// A served device. Its thread runs until [`end`](Self::end).
#[derive(Debug)]
pub struct ControlHandle {
    asks: Sender<Ask>,
    wake: Arc<EventFd>,
    thread: JoinHandle<bool>,
    created: Created,
}

/// A way to look at a served device, for other threads.
#[derive(Clone, Debug)]
pub struct Viewer {
    asks: Sender<Ask>,
    wake: Arc<EventFd>,
}

impl Viewer {
    /// Returns what the device looks like now; `None` when its control thread has ended or is busy
    /// with a worker that does not answer.
    pub fn snapshot(&self) -> Option<DeviceSnapshot> {
        let (sender, receiver) = channel();
        self.asks.send(Ask::Snapshot(sender)).ok()?;
        let _ = self.wake.write(1);
        receiver.recv_timeout(SNAPSHOT_WAIT).ok()
    }
}

impl ControlHandle {
    /// Returns a way to look at the device.
    pub fn viewer(&self) -> Viewer {
        Viewer {
            asks: self.asks.clone(),
            wake: Arc::clone(&self.wake),
        }
    }

    /// Ends the control thread and the workers, and destroys the device, which must be detached.
    /// Returns whether nothing was left behind.
    pub fn end(self) -> bool {
        // An ended thread needs no telling.
        let _ = self.asks.send(Ask::End);
        let _ = self.wake.write(1);
        let clean = self.thread.join().unwrap_or(false);
        match self.created.destroy() {
            Ok(()) => clean,
            Err(error) => {
                error!("{error}");
                false
            }
        }
    }
}

/// Makes the device and starts its threads. It is not yet attached to anything.
///
/// # Errors
///
/// [`ServeError`] when any part of it cannot be had; nothing is left behind then.
pub fn spawn(options: DeviceOptions) -> Result<ControlHandle, ServeError> {
    let cpus = options.check()?;
    let open = options.backend.open(options.name.as_str());
    let backend = options.backend.to_string();
    let disk = open.map_err(|reason| ServeError::Disk { backend, reason })?;
    let created = Created::new(&options, &disk)?;
    let workers = created.spawn_workers(&options, &disk, &cpus)?;
    let device = Arc::clone(created.device()?);
    let name = options.name.clone();
    let refuse = |reason: std::io::Error| ServeError::Thread {
        name: name.clone(),
        reason,
    };
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let wake = Arc::new(EventFd::from_flags(flags).map_err(|e| refuse(e.into()))?);
    let (asks, inbox) = channel();
    let offered = Features::offered(disk.geometry(), options.queues);
    let control = ControlThread {
        capacity_bytes: disk.geometry().capacity_sectors * 512,
        options,
        device,
        offered,
        workers,
        wake: Arc::clone(&wake),
        inbox,
        status: DeviceStatus::default(),
        features: Features::empty(),
        table: Arc::default(),
        ready_until: None,
        problem: None,
        broken: false,
    };
    let thread = Builder::new().name(format!("{name}/control"));
    let thread = thread.spawn(move || control.run()).map_err(refuse)?;
    Ok(ControlHandle {
        asks,
        wake,
        thread,
        created,
    })
}

/// What can happen to a control thread.
enum Event {
    Message,
    Asked,
    Broken,
    Tick,
}

struct ControlThread {
    options: DeviceOptions,
    capacity_bytes: u64,
    device: Arc<Device>,
    offered: Features,
    workers: Workers,
    wake: Arc<EventFd>,
    inbox: Receiver<Ask>,
    status: DeviceStatus,
    features: Features,
    /// The driver's memory, the same that the workers use.
    table: Arc<RegionTable>,
    /// Until when queues that are not ready are looked at again.
    ready_until: Option<Instant>,
    /// Why the driver was refused, or the device is broken.
    problem: Option<String>,
    broken: bool,
}

impl ControlThread {
    /// Serves until it is told to end. Returns whether all threads ended.
    fn run(mut self) -> bool {
        let looped = self.serve();
        if let Err(errno) = looped {
            error!(device = %self.options.name, "the control thread cannot go on: {errno}");
        }
        self.workers.stop();
        let ended = self.workers.end();
        looped.is_ok() && ended
    }

    fn serve(&mut self) -> nix::Result<()> {
        const DEVICE: u64 = 0;
        const WAKE: u64 = 1;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // EPOLLERR, which means broken, comes unasked.
        epoll.add(
            self.device.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN, DEVICE),
        )?;
        epoll.add(
            self.wake.as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN, WAKE),
        )?;
        loop {
            let mut ready = [EpollEvent::empty(); 2];
            let timeout = match self.ready_until {
                Some(_) => EpollTimeout::from(READY_POLL_MS),
                None => EpollTimeout::NONE,
            };
            let count = match epoll.wait(&mut ready, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let events = ready[..count].iter().map(|event| match event.data() {
                DEVICE if event.events().contains(EpollFlags::EPOLLERR) => Event::Broken,
                DEVICE => Event::Message,
                _ => Event::Asked,
            });
            for event in events.chain((count == 0).then_some(Event::Tick)) {
                match event {
                    Event::Message => self.answer_messages(),
                    Event::Broken => {
                        epoll.delete(self.device.as_fd())?;
                        self.set_broken();
                    }
                    Event::Asked if self.answer_asks() => return Ok(()),
                    Event::Asked => {}
                    Event::Tick => self.start_ready_queues(),
                }
            }
        }
    }

    /// Answers what other threads ask. Returns whether to end.
    fn answer_asks(&mut self) -> bool {
        // Cleared before the inbox is looked at, so that no ask is overlooked.
        let _ = self.wake.read();
        while let Ok(ask) = self.inbox.try_recv() {
            match ask {
                Ask::Snapshot(answer) => drop(answer.send(self.snapshot())),
                Ask::End => return true,
            }
        }
        false
    }

    fn answer_messages(&mut self) {
        loop {
            match self.device.receive() {
                Ok(Some(request)) => self.answer(&request),
                Ok(None) => return,
                Err(error) => return error!("{error}"),
            }
        }
    }

    fn answer(&mut self, request: &Request) {
        debug!(device = %self.options.name, ?request, "message");
        let reply = match request.kind {
            RequestKind::SetStatus { status } => self.set_status(status),
            RequestKind::GetQueueState { index } => self.queue_state(index),
            RequestKind::UpdateIotlb { .. } => self.update_memory(),
            other => {
                warn!(device = %self.options.name, "a message that is not known: {other:?}");
                Reply::Failed
            }
        };
        if let Err(error) = self.device.reply(request, reply) {
            // Whoever asked has given up, as a killed driver process does.
            warn!("{error}");
        }
    }

    fn set_status(&mut self, asked: u8) -> Reply {
        let step = self.status.step(asked);
        if step.stop {
            self.stop();
        }
        if step.check_features && !self.check_features() {
            return Reply::Failed;
        }
        if step.start {
            self.start();
        }
        self.status = self.status.accept(asked);
        Reply::Ok
    }

    /// Returns whether the driver's choice of features can be served.
    fn check_features(&mut self) -> bool {
        let checked = match self.device.features() {
            Ok(accepted) => self.offered.negotiate(accepted).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match checked {
            Ok(features) => {
                self.features = features;
                self.problem = None;
                true
            }
            Err(reason) => {
                warn!(device = %self.options.name, "FEATURES_OK is refused: {reason}");
                self.problem = Some(reason);
                false
            }
        }
    }

    /// Serves all queues that are ready. DRIVER_OK cannot be refused, so what cannot be served is
    /// shown.
    fn start(&mut self) {
        if let Err(reason) = self.map_memory() {
            error!(device = %self.options.name, "{reason}");
            self.problem = Some(reason);
            return;
        }
        self.ready_until = Some(Instant::now() + READY_WAIT);
        self.start_ready_queues();
        info!(device = %self.options.name, "driver is ready, features {:#x}", self.features);
    }

    fn map_memory(&mut self) -> Result<(), String> {
        self.table = Arc::new(memory::map(&self.device).map_err(|e| e.to_string())?);
        Ok(())
    }

    fn start_ready_queues(&mut self) {
        let mut waiting = false;
        for index in 0..self.workers.len() {
            if self.workers.is_serving(index) {
                continue;
            }
            match self.device.queue_info(index as u32) {
                Ok(info) if info.ready && info.size > 0 => self.start_queue(index, &info),
                Ok(_) => waiting = true,
                Err(error) => warn!("{error}"),
            }
        }
        if !waiting
            || self
                .ready_until
                .is_some_and(|until| Instant::now() >= until)
        {
            self.ready_until = None;
        }
    }

    fn start_queue(&mut self, index: usize, info: &QueueInfo) {
        let queue = QueueConfig {
            size: u16::try_from(info.size).unwrap_or(u16::MAX),
            descriptor_area: Iova(info.descriptor_area),
            driver_area: Iova(info.driver_area),
            device_area: Iova(info.device_area),
            next_avail: info.avail_index,
            indirect: self.features.contains(Features::INDIRECT_DESC),
            event_idx: self.features.contains(Features::EVENT_IDX),
        };
        self.workers.start(
            index,
            QueueSetup {
                queue,
                table: Arc::clone(&self.table),
            },
        );
    }

    /// Takes everything out of use. Safe to answer the kernel afterwards.
    fn stop(&mut self) {
        self.ready_until = None;
        self.workers.stop();
        // The kernel makes new memory at the next attach, and these pages would stay the old ones.
        self.table = Arc::default();
        self.status = DeviceStatus::default();
        self.features = Features::empty();
    }

    fn queue_state(&mut self, index: u32) -> Reply {
        match self.workers.next_avail(index as usize, &self.table) {
            Some(avail_index) => Reply::SplitState { avail_index },
            None => Reply::Failed,
        }
    }

    /// Publishes the driver's new memory and waits until no worker uses the old.
    fn update_memory(&mut self) -> Reply {
        if !self.status.is_driver_ok() {
            // Mapped at DRIVER_OK.
            return Reply::Ok;
        }
        if let Err(reason) = self.map_memory() {
            error!(device = %self.options.name, "{reason}");
            return Reply::Failed;
        }
        let table = Arc::clone(&self.table);
        if self.workers.remap(&table) {
            Reply::Ok
        } else {
            Reply::Failed
        }
    }

    fn set_broken(&mut self) {
        self.broken = true;
        let problem = "the kernel gave the device up after an answer took too long: detach it and \
                       serve it again";
        error!(device = %self.options.name, "{problem}");
        self.problem = Some(problem.into());
    }

    fn snapshot(&mut self) -> DeviceSnapshot {
        let attached = vdpa::bound(&self.options.name);
        let state = match (self.broken, &self.problem, self.status) {
            (true, _, _) => "broken",
            (false, Some(_), _) => "refused",
            (false, None, status) if status.is_driver_ok() => "running",
            (false, None, status) if status.bits() == 0 => "reset",
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
            mode: match self.options.mode {
                PollMode::Busy => "busy",
                PollMode::Adaptive(_) => "adaptive",
                PollMode::Event => "event",
            }
            .into(),
            queues: self.workers.stats(),
        }
    }
}
