//! A device made anew under its threads, before it is attached once more.
//!
//! Since Linux 7.0 every attach gives a VDUSE device a new address space and forgets the one before without freeing it.
//! Before, what a guest left mapped stays in the way of the next driver. Neither survives the device, so where it is
//! needed the device is destroyed and created between two attaches. Nothing else of it changes: the threads, the disk and
//! what was counted stay.

use pollux_dataplane::backend::Backend;
use pollux_dataplane::blk::{ConfigSpace, Features};
use tracing::{error, info, warn};
use vduse::sysfs::Sysfs;
use vduse::{Control, DestroyError, Device, DeviceConfig, DeviceError};

use super::protocol::Protocol;
use super::thread::ControlThread;
use super::{DeviceOptions, Disk, ServeError};
use crate::sandbox::raised;
use crate::vdpa;

/// VIRTIO device ID of a block device.
const DEVICE_ID_BLOCK: u32 = 2;

/// Vendor ID shown on the vDPA bus: none of its own.
const VENDOR_ID: u32 = 0;

/// All that the kernel is told of a device.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) config: DeviceConfig,
    pub(super) protocol: Protocol,
    queue_size: u16,
    msg_timeout_s: Option<u32>,
    bounce_size_bytes: Option<u64>,
}

impl Recipe {
    pub(super) fn new(options: &DeviceOptions, disk: &Disk, protocol: Protocol) -> Self {
        let geometry = disk.geometry();
        let (queues, queue_size) = (options.queues, options.queue_size);
        let space = ConfigSpace::new(geometry, queues, queue_size, options.ring_features);
        let config = DeviceConfig {
            name: options.name.clone(),
            vendor_id: VENDOR_ID,
            device_id: DEVICE_ID_BLOCK,
            features: Features::offered(geometry, queues, options.ring_features).bits(),
            queue_count: u32::from(queues),
            group_count: protocol.group_count(),
            address_space_count: protocol.group_count(),
            config: space.as_bytes().to_vec(),
        };
        Self {
            config,
            protocol,
            queue_size,
            msg_timeout_s: options.msg_timeout_s,
            bounce_size_bytes: options.bounce_size_bytes,
        }
    }

    /// Tells the kernel what it cannot be told at the creation of the device.
    pub(super) fn set_up(&self, device: &Device) -> Result<(), ServeError> {
        let sysfs = Sysfs::new(device.name());
        if let Some(seconds) = self.msg_timeout_s {
            sysfs.set_msg_timeout_s(seconds)?;
        }
        // Refused once it was attached, even if it is the same.
        if let Some(bytes) = self.bounce_size_bytes
            && sysfs.bounce_size_bytes()? != bytes
        {
            sysfs.set_bounce_size_bytes(bytes)?;
        }
        for index in 0..self.config.queue_count {
            device.setup_queue(index, self.queue_size)?;
        }
        Ok(())
    }

    /// The same for a device whose daemon may have done it.
    pub(super) fn set_up_again(&self, device: &Device) -> Result<(), ServeError> {
        match self.set_up(device) {
            Err(ServeError::Device(DeviceError::Invalid { .. }))
                if self.protocol.api_version >= 1 =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Returns whether the driver has set DRIVER_OK, where the kernel lets it be known: not before API version 1.
    pub(super) fn is_driver_ok(&self, device: &Device) -> bool {
        let set_up = device.setup_queue(0, self.queue_size);
        // Queues are set up before that.
        self.protocol.api_version >= 1 && matches!(set_up, Err(DeviceError::Invalid { .. }))
    }

    fn create_anew(&self) -> Result<(), ServeError> {
        let control = Control::open()?;
        self.protocol.apply(&control)?;
        match control.destroy(&self.config.name) {
            // Where this failed the last time.
            Ok(()) | Err(DestroyError::Unknown { .. }) => {}
            Err(error) => return Err(ServeError::Destroy(error)),
        }
        control.create(&self.config).map_err(ServeError::from)
    }
}

impl ControlThread {
    /// Makes the device anew if its next attach takes that. Whoever waits for events of its file must wait anew.
    pub(super) fn renew(&mut self) -> Result<(), ServeError> {
        let name = self.options.name.clone();
        if vdpa::status(&name) != vdpa::Status::Detached {
            return Ok(());
        }
        let is_used_up = self.is_used_up()?;
        // By the attach that follows, whether its driver ever says something or not.
        self.was_attached = true;
        if !is_used_up {
            return Ok(());
        }
        self.stop();
        let renewed = raised(|| self.close_and_make());
        match &renewed {
            Ok(()) => {
                self.broken = false;
                self.problem = None;
                info!(device = %name, "made anew for the next attach");
            }
            // It is still there, and as it was.
            Err(ServeError::Destroy(error)) => warn!(device = %name, "{error}"),
            Err(error) => {
                error!(device = %name, "cannot be made anew: {error}");
                self.broken = true;
                self.problem = Some(error.to_string());
            }
        }
        renewed
    }

    /// Returns whether something of the last attach would be in the way of the next, or would be lost with it.
    fn is_used_up(&self) -> Result<bool, ServeError> {
        if self.broken {
            return Ok(true);
        }
        if self.recipe.protocol.api_version >= 1 {
            return Ok(self.was_attached);
        }
        Ok(self.device.iotlb_fd(0, u64::MAX)?.is_some())
    }

    fn close_and_make(&self) -> Result<(), ServeError> {
        self.device.close().map_err(|reason| DeviceError::Other {
            name: self.options.name.clone(),
            operation: "close",
            reason,
        })?;
        // It may have been resized since.
        let recipe = Recipe::new(&self.options, &self.disk, self.recipe.protocol);
        let made = recipe.create_anew();
        // One that could not be destroyed is served on.
        self.device.reopen()?;
        made?;
        recipe.set_up(&self.device)
    }
}
