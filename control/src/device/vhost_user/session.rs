//! What a frontend asks for, and the queues that are served for it.

use std::fs::File;
use std::os::fd::OwnedFd;

use pollux_dataplane::backend::Backend;
use pollux_dataplane::blk::{ConfigSpace, Features};
use pollux_dataplane::limits::REGIONS_MAX;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::{Notifier, QueueSetup};
use tracing::{info, warn};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::in_flight::{InFlight, InFlightError};
use super::memory::{Memory, MemoryError};
use super::queue::Queue;
use crate::device::workers::{Start, Workers};
use crate::device::{DeviceOptions, Disk};

/// Bytes of a configuration space that the protocol has room for.
const CONFIG_BYTES_MAX: usize = 256;

const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD);

/// The device as its frontend sees it. It outlives the frontend.
pub(super) struct Session {
    pub(super) name: String,
    config: ConfigSpace,
    offered: Features,
    needed: Features,
    pub(super) features: Features,
    pub(super) memory: Memory,
    pub(super) queues: Vec<Queue>,
    pub(super) workers: Workers,
    /// A person has paused the device.
    pub(super) paused: bool,
    /// What the frontend keeps of the requests in flight.
    in_flight: Option<InFlight>,
    /// Times that a frontend left, or reset the device.
    pub(super) resets: u64,
    /// Times that a frontend brought the log of another daemon.
    pub(super) recoveries: u64,
    /// Why the last frontend was hung up on.
    pub(super) problem: Option<String>,
}

impl Session {
    /// Returns that of a device without a frontend.
    pub(super) fn new(
        options: &DeviceOptions,
        disk: &Disk,
        queues: Vec<Queue>,
        workers: Workers,
    ) -> Self {
        let geometry = disk.geometry();
        let (count, size, ring) = (options.queues, options.queue_size, options.ring_features);
        // Addresses are the guest's, without a translation of the platform's.
        let translated = Features::ACCESS_PLATFORM;
        Self {
            name: options.name.to_string(),
            config: ConfigSpace::new(geometry, count, size, ring),
            offered: Features::offered(geometry, count, ring) - translated,
            needed: Features::needed(geometry) - translated,
            features: Features::empty(),
            memory: Memory::default(),
            queues,
            workers,
            paused: false,
            in_flight: None,
            resets: 0,
            recoveries: 0,
            problem: None,
        }
    }

    /// Stops all queues and forgets the frontend. Returns whether all workers stopped in time.
    pub(super) fn hang_up(&mut self) -> bool {
        self.resets += 1;
        self.paused = false;
        let stopped = self.workers.stop();
        // Also where one did not: what this frontend kept is not the next one's.
        let stopped = self.use_log(None).is_ok() && stopped;
        self.queues.iter_mut().for_each(Queue::reset);
        for queue in &self.queues {
            // They stand for nothing, or still for a frontend that is gone.
            let _ = queue.eventfds.call.set(None);
            let _ = queue.eventfds.kick.set(None);
        }
        self.memory = Memory::default();
        self.features = Features::empty();
        stopped
    }

    /// Gives the workers away, to be ended.
    pub(super) fn take_workers(&mut self) -> Workers {
        std::mem::replace(&mut self.workers, Workers::new(self.name.clone()))
    }

    fn ring_features(&self) -> RingFeatures {
        RingFeatures::from_bits_truncate(self.features.bits())
    }

    fn is_packed(&self) -> bool {
        self.ring_features().contains(RingFeatures::RING_PACKED)
    }

    fn queue(&mut self, index: u32) -> Result<&mut Queue> {
        self.queues
            .get_mut(index as usize)
            .ok_or(Error::InvalidParam)
    }

    /// Has queue `index` rest, if it is served.
    fn stop(&mut self, index: u32) -> Result<()> {
        if !self.queue(index)?.served {
            return Ok(());
        }
        let state = self.workers.stop_one(index as usize);
        let queue = self.queue(index)?;
        queue.served = false;
        queue.state = state.ok_or(Error::BackendInternalError)?;
        Ok(())
    }

    /// Serves queue `index`, once enough was said of it, and nobody has paused the device.
    pub(super) fn start(&mut self, index: u32) -> Result<()> {
        let (memory, features) = (self.memory.clone(), self.ring_features());
        let paused = self.paused;
        let write_through = !self.features.contains(Features::FLUSH);
        // With a log, after whatever served it last: where the ring and the log say.
        let (start, entries) = match &self.in_flight {
            Some(in_flight) => (Start::TakenOver, in_flight.entries),
            None => (Start::Fresh, u16::MAX),
        };
        let queue = self.queue(index)?;
        match queue.ready(&memory, features) {
            None => {}
            Some(Err(address)) => {
                let device = &self.name;
                warn!(
                    device,
                    "queue {index} has a ring at {address:#x}, in no memory that was shared"
                );
            }
            Some(Ok(config)) if config.size > entries => {
                let (device, size) = (&self.name, config.size);
                warn!(
                    device,
                    "queue {index} has {size} entries, and the in-flight log {entries}"
                );
                return Err(Error::InvalidParam);
            }
            // Going on looks at all queues.
            Some(Ok(_)) if paused => {}
            Some(Ok(config)) => {
                queue.served = true;
                let setup = QueueSetup {
                    queue: config,
                    table: memory.table(),
                    write_through,
                };
                self.workers.start(index as usize, setup, start);
                self.workers.await_started();
            }
        }
        Ok(())
    }

    /// Changes something of queue `index` that its worker must not use meanwhile.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Queue) -> Result<()>) -> Result<()> {
        self.stop(index)?;
        change(self.queue(index)?)?;
        self.start(index)
    }

    /// Has the workers write what is in flight down in `log`, if any.
    fn use_log(&mut self, log: Option<InFlight>) -> Result<()> {
        if log.is_none() && self.in_flight.is_none() {
            return Ok(());
        }
        self.in_flight = log;
        match self.workers.log(self.in_flight.as_ref().map(|it| &it.log)) {
            true => Ok(()),
            false => Err(Error::BackendInternalError),
        }
    }

    /// Takes a log, before any queue is served.
    fn take_log<T>(
        &mut self,
        made: std::result::Result<(InFlight, T), InFlightError>,
    ) -> Result<T> {
        if self.queues.iter().any(|queue| queue.served) {
            return Err(Error::InvalidOperation("queues are served already"));
        }
        let (log, told) = made.map_err(|reason| {
            let device = &self.name;
            warn!(device, "{reason}");
            Error::InvalidParam
        })?;
        self.use_log(Some(log))?;
        Ok(told)
    }

    fn remember(&mut self, memory: std::result::Result<Memory, MemoryError>) -> Result<()> {
        let memory = memory.map_err(|reason| {
            let device = &self.name;
            warn!(device, "the frontend's memory cannot be used: {reason}");
            Error::InvalidParam
        })?;
        self.memory = memory;
        if !self.workers.remap(&self.memory.table()) {
            return Err(Error::BackendInternalError);
        }
        // Some may have waited for it.
        (0..self.queues.len() as u32).try_for_each(|index| self.start(index))
    }
}

/// Something that was not offered.
fn not_offered<T>(what: &'static str) -> Result<T> {
    Err(Error::InvalidOperation(what))
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        match self.hang_up() {
            true => Ok(()),
            false => Err(Error::BackendInternalError),
        }
    }

    fn get_features(&mut self) -> Result<u64> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        Ok(self.offered.bits() | protocol)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let accepted = self.offered.negotiate(features & !protocol, self.needed);
        self.features = accepted.map_err(|reason| {
            let device = &self.name;
            warn!(device, "{reason}");
            Error::FeatureMismatch
        })?;
        let device = &self.name;
        info!(device, "a frontend is ready, features {:#x}", self.features);
        if features & protocol == 0 {
            // Without them there is no way to say so.
            self.queues
                .iter_mut()
                .for_each(|queue| queue.enabled = true);
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let memory = Memory::new(regions, files);
        self.remember(memory).map(|()| None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).map_err(|_| Error::InvalidParam)?;
        // What cannot be served is told where it starts.
        self.change(index, |queue| {
            queue.size = size;
            Ok(())
        })
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        if !flags.is_empty() {
            return not_offered("dirty pages are not logged");
        }
        self.change(index, |queue| {
            queue.areas = Some([descriptor, available, used]);
            Ok(())
        })
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let packed = self.is_packed();
        self.change(index, |queue| {
            queue.set_base(base, packed);
            Ok(())
        })
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let packed = self.is_packed();
        self.stop(index)?;
        let queue = self.queue(index)?;
        queue.started = false;
        Ok(VhostUserVringState::new(index, queue.base(packed)))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.change(index.into(), |queue| {
            let set = queue.eventfds.kick.set(fd.map(OwnedFd::from));
            queue.started = true;
            set.map_err(Error::ReqHandlerError)
        })
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let queue = self.queue(index.into())?;
        let set = queue.eventfds.call.set(fd.map(OwnedFd::from));
        if queue.served {
            // What was returned before may have been told to nobody.
            let _ = queue.eventfds.interrupt();
        }
        set.map_err(Error::ReqHandlerError)
    }

    fn set_vring_err(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        self.queue(index.into()).map(drop)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(PROTOCOL)
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        match features & !PROTOCOL.bits() {
            0 => Ok(()),
            _ => Err(Error::FeatureMismatch),
        }
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.queues.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.change(index, |queue| {
            queue.enabled = enable;
            Ok(())
        })
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        let mut bytes = self.config.as_bytes().to_vec();
        bytes.resize(CONFIG_BYTES_MAX, 0);
        let start = offset as usize;
        let end = start.checked_add(size as usize);
        let part = end.and_then(|end| bytes.get(start..end));
        part.map(<[u8]>::to_vec).ok_or(Error::InvalidParam)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        not_offered("nothing in the configuration space is the driver's to write")
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_offered("this is a disk")
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_offered("there are no shared objects")
    }

    fn get_inflight_fd(&mut self, asked: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let made = InFlight::create(asked);
        self.take_log(made.map(|(log, description, file)| (log, (description, file))))
    }

    fn set_inflight_fd(&mut self, told: &VhostUserInflight, file: File) -> Result<()> {
        let opened = InFlight::open(told, file);
        self.take_log(opened.map(|log| (log, ())))?;
        self.recoveries += 1;
        Ok(())
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(REGIONS_MAX as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        fd: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        let memory = self.memory.with(region, fd);
        self.remember(memory).map(|()| None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let memory = self.memory.without(region);
        self.remember(memory)
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_offered("there is no state to be moved")
    }

    fn check_device_state(&mut self) -> Result<()> {
        not_offered("there is no state to be moved")
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered("no memory is shared with the guest")
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        not_offered("dirty pages are not logged")
    }
}
