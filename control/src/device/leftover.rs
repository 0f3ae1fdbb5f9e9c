//! A device whose daemon was killed. Its driver waits for requests that nobody will finish, and could
//! never let go of it: they fail here, while it is taken down.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread::{JoinHandle, spawn};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pollux_dataplane::blk::Status;
use pollux_dataplane::limits::QUEUES_MAX;
use pollux_dataplane::mem::{Direction, FaultGuard, Iova, RegionTable, Translator};
use pollux_dataplane::ring::{Chain, DeviceQueue, QueueConfig, RingFeatures, SplitQueue};
use vduse::{
    Control, ControlError, DestroyError, Device, DeviceError, Name, OpenError, QueueInfo, Reply,
    Request, RequestKind,
};

use super::trace::Trace;
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
/// end with an I/O error, those that the killed daemon had not finished first. What it kept in `folder` goes, too.
///
/// # Errors
///
/// [`LeftoverError`] when a process serves the device after all, or the kernel refuses.
pub fn remove_leftover(name: &Name, folder: &Path) -> Result<(), LeftoverError> {
    let device = Device::open(name)?;
    if vdpa::status(name) != vdpa::Status::Detached {
        let name = name.clone();
        // In a thread of its own, since it waits for the driver, and the driver for the device.
        let detach = spawn(move || vdpa::detach(&name));
        Undertaker::new(&device).serve_until_end_of(&detach)?;
        if let Ok(detached) = detach.join() {
            detached?;
        }
    }
    drop(device);
    Control::open()?.destroy(name)?;
    Trace::new(folder, name).remove();
    Ok(())
}

/// Answers the kernel, and fails every request.
struct Undertaker<'device> {
    device: &'device Device,
    status: DeviceStatus,
    // Queues first: they are dropped before the guard of their memory.
    queues: Vec<(u32, SplitQueue)>,
    memory: Option<(FaultGuard, Translator)>,
}

impl<'device> Undertaker<'device> {
    fn new(device: &'device Device) -> Self {
        let mut undertaker = Self {
            device,
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
                    let queue = take_over(&messages::queue_config(&info, features), &info, &table);
                    self.queues.extend(queue.map(|queue| (index, queue)));
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
        for (index, _) in &self.queues {
            // Refused while the driver is not ready, which then looks by itself.
            let _ = self.device.inject_irq(*index);
        }
    }

    fn fail_requests(&mut self) {
        let Some((guard, translator)) = &self.memory else {
            return;
        };
        let mut returned = false;
        for (_, queue) in &mut self.queues {
            let mut chain = Chain::new(translator);
            // A ring that makes no sense, or is gone, has nothing to be returned.
            while let Ok(Some(head)) = queue.take(&mut chain) {
                if let Some((last_byte, _)) = chain.last_writable() {
                    last_byte.store_last(Status::IoError as u8);
                    queue.push(head.done(1));
                    returned = true;
                } else {
                    // What cannot be answered must not look like a success.
                    head.abandon();
                }
            }
            guard.take();
            queue.publish();
        }
        if returned {
            self.interrupt();
        }
    }
}

/// Returns a queue from the first request on that its last device did not return. Backends so far
/// return requests in order; otherwise the used index would not say which those are. A packed ring does not
/// say it at all: `None`.
fn take_over(config: &QueueConfig, info: &QueueInfo, table: &RegionTable) -> Option<SplitQueue> {
    if config.features.contains(RingFeatures::RING_PACKED) {
        return None;
    }
    let used_idx = Iova(info.device_area).checked_add(2)?;
    let used_idx = table.cell::<std::sync::atomic::AtomicU16>(used_idx, Direction::Writable);
    let next_avail = used_idx.ok()?.load(std::sync::atomic::Ordering::Acquire);
    let config = QueueConfig {
        next_avail,
        ..*config
    };
    SplitQueue::new(&config, table).ok()
}
