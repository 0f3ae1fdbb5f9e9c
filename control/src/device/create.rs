//! Making a VDUSE device, and unmaking it whatever happens.

use std::path::Path;
use std::sync::Arc;

use pollux_dataplane::backend::Backend;
use pollux_dataplane::backend::DiskError;
use pollux_dataplane::inflight::InFlightLog;
use pollux_dataplane::worker::{SpawnError, WorkerConfig};
use vduse::sysfs::SysfsError;
use vduse::{
    Control, ControlError, CreateError, DestroyError, Device, DeviceError, Name, OpenError,
};

use super::notifier::VduseNotifier;
use super::protocol::Protocol;
use super::renew::Recipe;
use super::trace::{DeviceState, Trace, TraceError};
use super::workers::Workers;
use super::{DeviceOptions, Disk, OptionsError};

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The options.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The backend.
    #[error("backend {backend}: {reason}")]
    Disk {
        /// As it was written.
        backend: String,
        /// What is wrong.
        reason: DiskError,
    },
    /// VDUSE is not there or not allowed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The kernel has a device of this name that no daemon here serves.
    #[error(
        "device {name} exists already: pollux detach {name} removes what a killed daemon left; if \
         another program serves it, use another name"
    )]
    Exists {
        /// The name.
        name: Name,
    },
    /// What the one that was killed served is not what is to be served.
    #[error(
        "device {name} exists already and {differences}: serve it as it is, or remove it with pollux detach {name}"
    )]
    Differs {
        /// The name.
        name: Name,
        /// What is not the same.
        differences: String,
    },
    /// What it had was in the daemon's memory.
    #[error(
        "device {name} exists already and its data is in its daemon's memory: remove it with pollux detach {name}, \
         and serve one with ram,path=FILE that outlives its daemon"
    )]
    Forgets {
        /// The name.
        name: Name,
    },
    /// What is kept for the next daemon.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The kernel refused the device.
    #[error(transparent)]
    Create(CreateError),
    /// It could not be unmade after something else failed.
    #[error(transparent)]
    Destroy(DestroyError),
    /// The device cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A request to the device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A sysfs attribute could not be set.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// No worker.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// No control thread.
    #[error("cannot start the control thread of {name}: {reason}")]
    Thread {
        /// The device.
        name: Name,
        /// What the system said.
        reason: std::io::Error,
    },
}

impl From<CreateError> for ServeError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Exists { name } => Self::Exists { name },
            other => Self::Create(other),
        }
    }
}

/// A device that exists in the kernel. Dropping it destroys it, unless it was there before.
#[derive(Debug)]
pub struct Created {
    control: Control,
    device: Option<Arc<Device>>,
    name: Name,
    recipe: Recipe,
    trace: Trace,
    log: InFlightLog,
    /// Made by another daemon, or destroyed already.
    taken_over: bool,
}

impl Created {
    /// Makes the device and tells the kernel its queues, or takes over the one that a killed daemon left, if it
    /// is the same. What the next daemon needs to do so is kept in `folder`. Nothing new is left behind on failure.
    pub(super) fn new(
        options: &DeviceOptions,
        disk: &Disk,
        folder: &Path,
    ) -> Result<Self, ServeError> {
        match Self::make(options, disk, folder) {
            Err(ServeError::Exists { name }) => Self::take_over(options, disk, folder, name),
            other => other,
        }
    }

    fn make(options: &DeviceOptions, disk: &Disk, folder: &Path) -> Result<Self, ServeError> {
        let control = Control::open()?;
        let protocol = Protocol::negotiate(&control)?;
        let recipe = Recipe::new(options, disk, protocol);
        control.create(&recipe.config)?;
        let name = options.name.clone();
        let trace = Trace::new(folder, &name);
        let log = match trace.begin(&DeviceState::new(options, disk, protocol)) {
            Ok(log) => log,
            Err(error) => {
                trace.remove();
                control.destroy(&name).map_err(ServeError::Destroy)?;
                return Err(error.into());
            }
        };
        let mut created = Self {
            control,
            device: None,
            name,
            recipe,
            trace,
            log,
            taken_over: false,
        };
        let device = Device::open(&created.name)?;
        created.recipe.set_up(&device)?;
        created.device = Some(Arc::new(device));
        Ok(created)
    }

    fn take_over(
        options: &DeviceOptions,
        disk: &Disk,
        folder: &Path,
        name: Name,
    ) -> Result<Self, ServeError> {
        let trace = Trace::new(folder, &name);
        let Some(state) = Self::check(options, disk, folder)? else {
            return Err(ServeError::Exists { name });
        };
        let device = Device::open(&name)?;
        let protocol = state.protocol();
        let recipe = Recipe::new(options, disk, protocol);
        // Its daemon may have been killed before it came to this, or on the way to another size.
        recipe.set_up_again(&device)?;
        let wanted = DeviceState::new(options, disk, protocol);
        if state != wanted {
            trace.write(&wanted)?;
        }
        Ok(Self {
            control: Control::open()?,
            device: Some(Arc::new(device)),
            log: trace.log(&state)?,
            name,
            recipe,
            trace,
            taken_over: true,
        })
    }

    /// Returns the state in which a device was left in `folder`, if it was and can be taken over.
    pub(super) fn check(
        options: &DeviceOptions,
        disk: &Disk,
        folder: &Path,
    ) -> Result<Option<DeviceState>, ServeError> {
        let name = options.name.clone();
        let Some(state) = Trace::new(folder, &name).state()? else {
            return Ok(None);
        };
        let differences = state.differences(&DeviceState::new(options, disk, state.protocol()));
        if !differences.is_empty() {
            return Err(ServeError::Differs { name, differences });
        }
        match options.backend.outlives_daemon() {
            true => Ok(Some(state)),
            false => Err(ServeError::Forgets { name }),
        }
    }

    /// Returns where what the next daemon needs is kept.
    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Returns whether another daemon made the device.
    pub(super) fn is_taken_over(&self) -> bool {
        self.taken_over
    }

    /// Returns what the kernel was told of the device.
    pub(super) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Returns the open device.
    pub(super) fn device(&self) -> Result<&Arc<Device>, ServeError> {
        // `new` sets it, and only `destroy` takes it.
        let name = self.name.clone();
        let reason = std::io::Error::other("the device is closed");
        self.device
            .as_ref()
            .ok_or(ServeError::Thread { name, reason })
    }

    /// Starts a worker for each queue, on `cpus`.
    pub(super) fn spawn_workers(
        &self,
        options: &DeviceOptions,
        disk: &Disk,
        cpus: &[usize],
    ) -> Result<Workers, ServeError> {
        let mut workers = Vec::new();
        for (index, &cpu) in (0..).zip(cpus) {
            let name = thread_name(&self.name, index);
            let geometry = disk.geometry().clone();
            let config = WorkerConfig {
                name,
                cpu: Some(cpu),
                mode: options.mode,
                interrupt_hold: options.interrupt_hold,
                latency_sample: options.latency_sample,
                geometry,
                in_flight: self.log.queue(index as u16),
            };
            let notifier = VduseNotifier {
                device: Arc::clone(self.device()?),
                index,
            };
            match disk.spawn_worker(config, notifier) {
                Ok(worker) => workers.push((worker, cpu)),
                Err(error) => {
                    Workers::new(self.name.to_string(), workers).end();
                    return Err(error.into());
                }
            }
        }
        Ok(Workers::new(self.name.to_string(), workers))
    }

    /// Closes the device and leaves it to the next daemon.
    pub(super) fn leave(mut self) {
        // Dropping does not destroy it.
        self.taken_over = true;
    }

    /// Closes the device and destroys it.
    ///
    /// # Errors
    ///
    /// [`DestroyError`] while it is attached, or something else has it open.
    pub fn destroy(mut self) -> Result<(), DestroyError> {
        self.device = None;
        let destroyed = self.control.destroy(&self.name);
        if destroyed.is_ok() {
            self.trace.remove();
        }
        // Dropping does not try again.
        self.taken_over = true;
        destroyed
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if self.taken_over {
            return;
        }
        self.device = None;
        match self.control.destroy(&self.name) {
            Ok(()) => self.trace.remove(),
            Err(error) => tracing::error!("{error}"),
        }
    }
}

/// Returns the name of the worker of queue `index`: threads have 15 bytes.
fn thread_name(name: &Name, index: u32) -> String {
    let suffix = format!("/vq{index}");
    let room = 15 - suffix.len();
    let mut name = name.as_str().to_owned();
    while name.len() > room {
        name.pop();
    }
    name + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_names_fit_the_kernels_fifteen_bytes() {
        let short = "d0".parse().unwrap();
        assert_eq!(thread_name(&short, 3), "d0/vq3");
        let long = "a-long-device-name".parse().unwrap();
        assert_eq!(thread_name(&long, 12), "a-long-dev/vq12");
    }
}
