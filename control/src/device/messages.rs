//! What the kernel asks, and what it is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pollux_dataplane::backend::Backend;
use pollux_dataplane::blk::Features;
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::{Position, QueueConfig, RingFeatures};
use pollux_dataplane::worker::QueueSetup;
use tracing::{debug, error, info, warn};
use vduse::{DeviceError, PackedState, QueueInfo, Reply, Request, RequestKind};

use super::interrupts::QueueInterrupts;
use super::moment::Moment;
use super::thread::ControlThread;
use super::workers::Start;
use super::{DeviceStatus, memory};

/// How long after DRIVER_OK a queue may still become ready: some drivers enable theirs late.
const READY_WAIT: Duration = Duration::from_secs(1);

impl ControlThread {
    /// Goes on with a device whose daemon was killed, before anything is answered: nothing that was answered is
    /// asked again.
    pub(super) fn take_over(&mut self) {
        self.taken_over = true;
        self.was_attached = true;
        // The one that was killed may have been about to tell of another size.
        let geometry = self.disk.geometry().clone();
        match self.tell_capacity(&geometry) {
            Ok(()) => {}
            // The driver has not set DRIVER_OK: the message that does so starts the queues.
            Err(DeviceError::Invalid { .. }) if !self.recipe.is_driver_ok(&self.device) => return,
            Err(DeviceError::Invalid { .. }) => self.suspended = true,
            Err(error) => {
                error!(device = %self.options.name, "{error}");
                self.problem = Some(error.to_string());
                return;
            }
        }
        // Negotiated with what is offered now, too.
        if self.check_features() {
            self.status = DeviceStatus::running();
            self.start(Start::TakenOver);
        }
    }

    pub(super) fn answer_messages(&mut self) {
        loop {
            match self.device.receive() {
                Ok(Some(request)) => self.answer(&request),
                Ok(None) => return,
                Err(error) => return error!(device = %self.options.name, "{error}"),
            }
        }
    }

    fn answer(&mut self, request: &Request) {
        debug!(device = %self.options.name, ?request, "message");
        self.was_attached = true;
        let reply = match request.kind {
            RequestKind::SetStatus { status } => self.set_status(status),
            RequestKind::GetQueueState { index } => self.queue_state(index),
            RequestKind::UpdateIotlb { asid: 0, .. } => self.update_memory(),
            // The only group there is, and the only address space.
            RequestKind::SetGroupAsid { group: 0, asid: 0 } => Reply::Ok,
            RequestKind::SetQueueReady { index, ready } => {
                self.set_queue_ready(index as usize, ready)
            }
            RequestKind::Suspend => self.suspend(),
            other => {
                warn!(device = %self.options.name, "a message that is not known: {other:?}");
                Reply::Failed
            }
        };
        if let Err(error) = self.device.reply(request, reply) {
            // Whoever asked has given up, as a killed driver process does.
            warn!(device = %self.options.name, "{error}");
        }
    }

    fn set_status(&mut self, asked: u8) -> Reply {
        let step = self.status.step(asked);
        if step.stop {
            self.resets += 1;
            self.stop();
        }
        if step.check_features && !self.check_features() {
            return Reply::Failed;
        }
        if step.start {
            self.start(Start::Fresh);
        }
        self.status = self.status.accept(asked);
        Reply::Ok
    }

    /// Returns whether the driver's choice of features can be served.
    fn check_features(&mut self) -> bool {
        let checked = match self.device.features() {
            Ok(accepted) => {
                let needed = Features::needed(self.disk.geometry());
                let negotiated = self.offered.negotiate(accepted, needed);
                negotiated.map_err(|e| e.to_string())
            }
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
    fn start(&mut self, start: Start) {
        if self.umem.is_wanted() {
            self.ready_until = Some(Instant::now() + READY_WAIT);
            self.waiting = Some(start);
            self.register_umem(start);
        } else {
            self.serve_queues(start);
        }
        info!(device = %self.options.name, "driver is ready, features {:#x}", self.features);
    }

    /// Registers the daemon's memory, if the driver has made its first request, and serves the queues from there on.
    pub(super) fn register_umem(&mut self, start: Start) {
        match memory::find(&self.device) {
            Ok(shared) if shared.is_bounced() => {
                // The region that takes the memory comes with the first request.
                if let Ok(None) = self.device.iotlb_info(0, 0) {
                    return;
                }
                self.umem.register(&self.device);
            }
            // A guest has no bounce pages to be replaced; what is wrong is told by what comes next.
            Ok(_) | Err(_) => {}
        }
        self.waiting = None;
        self.serve_queues(start);
    }

    /// Serves the queues in the driver's memory as it is now.
    fn serve_queues(&mut self, start: Start) {
        match self.map_memory() {
            Ok(()) => self.start_queues(start),
            Err(reason) => {
                error!(device = %self.options.name, "{reason}");
                self.problem = Some(reason);
            }
        }
    }

    fn map_memory(&mut self) -> Result<(), String> {
        let shared = memory::find(&self.device);
        let table = shared.and_then(|it| it.table(&self.device, self.umem.region()));
        self.table = Arc::new(table.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Serves all queues that are ready now, and those that become so.
    pub(super) fn start_queues(&mut self, start: Start) {
        self.awaited = (0..self.workers.len()).collect();
        self.ready_until = Some(Instant::now() + READY_WAIT);
        self.start_ready_queues(start);
        if self.recipe.protocol.tells_ready() {
            self.awaited.clear();
            self.ready_until = None;
        }
    }

    pub(super) fn start_ready_queues(&mut self, start: Start) {
        let mut started = Vec::new();
        for index in std::mem::take(&mut self.awaited) {
            if self.workers.is_serving(index) {
                continue;
            }
            match self.device.queue_info(index as u32) {
                Ok(info) if info.ready && info.size > 0 && !self.stands_still() => {
                    if !self.workers.resume(index, &self.table) {
                        self.workers.start(index, self.setup(&info), start);
                        started.push(index);
                    }
                }
                // One that was disabled, or suspended, goes on from where it was. Nothing else tells.
                Ok(info) if start == Start::TakenOver && info.size > 0 && self.keeps_paused() => {
                    self.workers.recover(index, self.setup(&info));
                }
                Ok(_) => {
                    self.awaited.insert(index);
                }
                Err(error) => warn!(device = %self.options.name, "{error}"),
            }
        }
        self.workers.await_started();
        self.served_at = Moment::now();
        // They are served by then: this takes longer than starting them does.
        for index in started {
            self.place_interrupts(index);
        }
        let is_over = |until| Instant::now() >= until;
        if self.ready_until.is_some_and(is_over) {
            self.awaited.clear();
            self.ready_until = None;
        }
    }

    /// Returns how to serve the queue in `info`.
    fn setup(&self, info: &QueueInfo) -> QueueSetup {
        QueueSetup {
            queue: queue_config(info, self.features.bits()),
            table: Arc::clone(&self.table),
            write_through: !self.features.contains(Features::FLUSH),
        }
    }

    fn stands_still(&self) -> bool {
        self.suspended || self.paused
    }

    /// Returns whether a queue may be set up and not be served.
    fn keeps_paused(&self) -> bool {
        self.suspended || self.recipe.protocol.tells_ready()
    }

    fn place_interrupts(&mut self, index: usize) {
        // One that goes on has them placed, and what the driver chose is seen only the first time.
        if self.interrupts.iter().any(|queue| queue.index() == index) {
            return;
        }
        let wanted = &self.options.interrupt_cpus;
        let cpus = self.workers.cpus();
        let is_held = !self.options.interrupt_hold.is_zero();
        let placed = QueueInterrupts::place(&self.options.name, index, wanted, is_held, &cpus);
        self.interrupts.extend(placed);
    }

    /// Takes everything out of use. Safe to answer the kernel afterwards.
    pub(super) fn stop(&mut self) {
        self.awaited.clear();
        self.ready_until = None;
        self.suspended = false;
        self.paused = false;
        self.waiting = None;
        self.leaving = false;
        self.interrupts.clear();
        self.workers.stop();
        // The kernel makes new memory at the next attach, and these pages would stay the old ones.
        self.table = Arc::default();
        self.umem.release(&self.device);
        self.status = DeviceStatus::default();
        self.features = Features::empty();
    }

    fn queue_state(&mut self, index: u32) -> Reply {
        // Workers know where queues stand that they have.
        self.go_on();
        let Some(state) = self.workers.state(index as usize, &self.table) else {
            return Reply::Failed;
        };
        if self.features.contains(Features::RING_PACKED) {
            let avail = Position::from_bits(state.next_avail);
            let used = Position::from_bits(state.next_used);
            Reply::PackedState(PackedState {
                last_avail_counter: avail.wrap,
                last_avail_index: avail.slot,
                last_used_counter: used.wrap,
                last_used_index: used.slot,
            })
        } else {
            Reply::SplitState {
                avail_index: state.next_avail,
            }
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
}

/// Returns the queue that the driver set up as in `info`, with `features`.
pub(super) fn queue_config(info: &QueueInfo, features: u64) -> QueueConfig {
    let features = RingFeatures::from_bits_truncate(features);
    let position = |slot, wrap| Position { slot, wrap }.bits();
    let packed = info.packed;
    let (next_avail, next_used) = if features.contains(RingFeatures::RING_PACKED) {
        (
            position(packed.last_avail_index, packed.last_avail_counter),
            position(packed.last_used_index, packed.last_used_counter),
        )
    } else {
        (info.avail_index, 0)
    };
    QueueConfig {
        size: u16::try_from(info.size).unwrap_or(u16::MAX),
        descriptor_area: Iova(info.descriptor_area),
        driver_area: Iova(info.driver_area),
        device_area: Iova(info.device_area),
        next_avail,
        next_used,
        features,
    }
}
