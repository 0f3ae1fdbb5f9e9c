//! A device whose daemon was killed. Its driver waits for requests that nobody will finish, and could
//! never let go of it: they fail here, while it is taken down.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pollux_dataplane::backend::give_back_controller;
use pollux_dataplane::blk::Status;
use pollux_dataplane::inflight::{InFlightLog, Logged, QueueLog};
use pollux_dataplane::limits::QUEUES_MAX;
use pollux_dataplane::mem::{FaultGuard, RegionTable, Translator};
use pollux_dataplane::ring::{
    Chain, InOrder, PackedQueue, QueueConfig, RingFeatures, SetupError, SplitQueue,
};
use vduse::{
    Control, ControlError, DestroyError, Device, DeviceError, Name, OpenError, Reply, Request,
    RequestKind,
};

use super::trace::{Trace, controller_note};
use super::{DeviceStatus, memory, messages};
use crate::vdpa::{self, DetachError};

/// How often queues are looked at while the driver lets go.
const LOOK_MS: u8 = 1;

/// Why a left-over device could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// Another program serves it, or it may not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The driver does not let go.
    #[error(transparent)]
    Detach(#[from] DetachError),
    /// VDUSE is not there or not allowed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It is still in use.
    #[error(transparent)]
    Destroy(#[from] DestroyError),
    /// A request to the device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Detaches and destroys the device `name`, which no process serves any more. Requests of its driver
/// end with an I/O error, those that the killed daemon had not finished first. What it kept in `folder` goes, too, and a
/// controller that it took from its driver is given back.
///
/// # Errors
///
/// [`LeftoverError`] when a process serves the device after all, or the kernel refuses.
pub fn remove_leftover(name: &Name, folder: &Path) -> Result<(), LeftoverError> {
    let device = Device::open(name)?;
    let trace = Trace::new(folder, name);
    // Without it, what a ring tells by itself has to do.
    let state = trace.state().ok().flatten();
    let log = state.and_then(|state| trace.log(&state).ok());
    if vdpa::status(name) != vdpa::Status::Detached {
        let name = name.clone();
        // In a thread of its own, since it waits for the driver, and the driver for the device.
        let detach = spawn(move || vdpa::detach(&name));
        Undertaker::new(&device, log).serve_until_end_of(&detach)?;
        if let Ok(detached) = detach.join() {
            detached?;
        }
    }
    drop(device);
    Control::open()?.destroy(name)?;
    trace.remove();
    if let Some(pci) = give_back_controller(&controller_note(folder, name)) {
        tracing::info!(device = %name, "{pci} is its driver's again");
    }
    Ok(())
}

/// Answers the kernel, and fails every request.
struct Undertaker<'device> {
    device: &'device Device,
    status: DeviceStatus,
    log: Option<InFlightLog>,
    // Queues first: they are dropped before the guard of their memory.
    queues: Vec<Abandoned>,
    memory: Option<(FaultGuard, Translator)>,
}

/// A queue that nobody serves any more.
struct Abandoned {
    index: u32,
    queue: Box<dyn Fail>,
    log: Option<QueueLog>,
}

impl<'device> Undertaker<'device> {
    fn new(device: &'device Device, log: Option<InFlightLog>) -> Self {
        let mut undertaker = Self {
            device,
            log,
            status: DeviceStatus::default(),
            queues: Vec::new(),
            memory: None,
        };
        // The one request that is refused unless the driver has set DRIVER_OK.
        if device.inject_config_irq().is_ok() {
            undertaker.start();
        }
        undertaker
    }

    fn serve_until_end_of<T>(mut self, detach: &JoinHandle<T>) -> Result<(), DeviceError> {
        while !detach.is_finished() {
            let mut ready = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
            // An interrupted wait is a short one.
            let _ = poll(&mut ready, PollTimeout::from(LOOK_MS));
            while let Some(request) = self.device.receive()? {
                let reply = self.answer(&request);
                self.device.reply(&request, reply)?;
            }
            self.fail_requests();
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Reply {
        match request.kind {
            RequestKind::SetStatus { status } => {
                let step = self.status.step(status);
                if step.stop {
                    self.stop();
                }
                if step.start {
                    self.start();
                }
                self.status = self.status.accept(status);
                Reply::Ok
            }
            RequestKind::UpdateIotlb { .. } => {
                let serving = self.memory.is_some();
                self.stop();
                if serving {
                    self.start();
                }
                Reply::Ok
            }
            RequestKind::SetQueueReady { index, ready } => {
                self.queues.retain(|queue| ready || queue.index != index);
                Reply::Ok
            }
            RequestKind::Suspend => {
                self.stop();
                Reply::Ok
            }
            _ => Reply::Failed,
        }
    }

    fn stop(&mut self) {
        self.queues.clear();
        self.memory = None;
    }

    /// Takes over every queue that is ready. What cannot be had is left alone: there is nobody to tell.
    fn start(&mut self) {
        self.stop();
        let (Ok(table), Ok(features)) = (memory::map(self.device), self.device.features()) else {
            return;
        };
        let table = Arc::new(table);
        self.memory = Some((
            FaultGuard::new(Arc::clone(&table)),
            Translator::new(Arc::clone(&table)),
        ));
        for index in 0..u32::from(QUEUES_MAX) {
            match self.device.queue_info(index) {
                Ok(info) if info.ready => {
                    let config = messages::queue_config(&info, features);
                    let mut log = self.log.as_ref().and_then(|log| log.queue(index as u16));
                    if let Ok(queue) = take_over(&config, &table, log.as_mut()) {
                        self.queues.push(Abandoned { index, queue, log });
                    }
                }
                Ok(_) => {}
                // There are no more.
                Err(_) => break,
            }
        }
        // The killed daemon may have returned requests and not said so.
        self.interrupt();
    }

    fn interrupt(&self) {
        for queue in &self.queues {
            // Refused while the driver is not ready, which then looks by itself.
            let _ = self.device.inject_irq(queue.index);
        }
    }

    fn fail_requests(&mut self) {
        let Some((guard, translator)) = &self.memory else {
            return;
        };
        let mut returned = false;
        for Abandoned { queue, log, .. } in &mut self.queues {
            returned |= queue.fail_all(translator, log.as_mut());
            guard.take();
        }
        if returned {
            self.interrupt();
        }
    }
}

/// A virtqueue of any format.
trait Fail {
    /// Returns every request with an error. Returns whether there was one.
    fn fail_all(&mut self, translator: &Translator, log: Option<&mut QueueLog>) -> bool;
}

impl<Q: Logged> Fail for Q {
    fn fail_all(&mut self, translator: &Translator, mut log: Option<&mut QueueLog>) -> bool {
        let mut returned = false;
        let mut chain = Chain::new(translator);
        // A ring that makes no sense, or is gone, has nothing to be returned.
        while let Ok(Some(head)) = self.take(&mut chain) {
            if let Some(log) = &mut log {
                Q::taken(log, &head);
            }
            let Some((last_byte, _)) = chain.last_writable() else {
                // What cannot be answered must not look like a success.
                head.abandon();
                continue;
            };
            last_byte.store_last(Status::IoError as u8);
            if let Some(log) = &mut log {
                Q::returned(log, head.id());
            }
            self.push(head.done(1));
            returned = true;
        }
        match log {
            Some(log) => self.publish_logged(log),
            None => self.publish(),
        }
        returned
    }
}

/// Returns a queue from the first request on that its last device did not return.
fn take_over(
    config: &QueueConfig,
    table: &RegionTable,
    log: Option<&mut QueueLog>,
) -> Result<Box<dyn Fail>, SetupError> {
    fn boxed<Q: Logged + 'static>(
        mut queue: Q,
        log: Option<&mut QueueLog>,
    ) -> Result<Box<dyn Fail>, SetupError> {
        queue.take_over(log)?;
        Ok(Box::new(queue))
    }
    let has = |feature| config.features.contains(feature);
    let size = config.size;
    match (has(RingFeatures::RING_PACKED), has(RingFeatures::IN_ORDER)) {
        (false, false) => boxed(SplitQueue::new(config, table)?, log),
        (false, true) => boxed(InOrder::new(SplitQueue::new(config, table)?, size), log),
        (true, false) => boxed(PackedQueue::new(config, table)?, log),
        (true, true) => boxed(InOrder::new(PackedQueue::new(config, table)?, size), log),
    }
}
