//! Making a VDUSE device, and unmaking it whatever happens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pollux_dataplane::backend::DiskError;
use pollux_dataplane::inflight::InFlightLog;
use pollux_dataplane::worker::SpawnError;
use vduse::sysfs::SysfsError;
use vduse::{
    Control, ControlError, CreateError, DestroyError, Device, DeviceError, Name, OpenError,
};

use super::protocol::Protocol;
use super::renew::Recipe;
use super::trace::{DeviceState, Trace, TraceError};
use super::vhost_user::SocketError;
use super::{DeviceOptions, Disk, OptionsError, PoolError};

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The options.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The threads that it shares.
    #[error(transparent)]
    Pool(#[from] PoolError),
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
    /// The socket of a device without VDUSE.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A bus that it is not on.
    #[error("{name} is served over vhost-user: connect a frontend to {} instead", path.display())]
    VhostUser {
        /// The device.
        name: Name,
        /// Its socket.
        path: PathBuf,
    },
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
    device: Arc<Device>,
    name: Name,
    recipe: Recipe,
    trace: Trace,
    log: InFlightLog,
    /// Made by another daemon, or destroyed already.
    taken_over: bool,
}

impl Created {
    /// Makes the device, opens it and tells the kernel its queues, or takes over the one that another daemon left, if it
    /// is the same: that first if it `is_there`, since its driver waits. What the next daemon needs to do so is kept in
    /// `folder`. Nothing new is left behind on failure.
    pub(super) fn new(
        options: &DeviceOptions,
        disk: &Disk,
        folder: &Path,
        device: &Arc<Device>,
        is_there: bool,
    ) -> Result<Self, ServeError> {
        if is_there {
            match Self::take_over(options, disk, folder, device) {
                // It has gone in between.
                Err(ServeError::Exists { .. } | ServeError::Open(OpenError::Unknown { .. })) => {}
                other => return other,
            }
        }
        match Self::make(options, disk, folder, device) {
            Err(ServeError::Exists { .. }) => Self::take_over(options, disk, folder, device),
            other => other,
        }
    }

    fn make(
        options: &DeviceOptions,
        disk: &Disk,
        folder: &Path,
        device: &Arc<Device>,
    ) -> Result<Self, ServeError> {
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
        let created = Self {
            control,
            device: Arc::clone(device),
            name,
            recipe,
            trace,
            log,
            taken_over: false,
        };
        device.reopen()?;
        created.recipe.set_up(device)?;
        Ok(created)
    }

    fn take_over(
        options: &DeviceOptions,
        disk: &Disk,
        folder: &Path,
        device: &Arc<Device>,
    ) -> Result<Self, ServeError> {
        let name = options.name.clone();
        let trace = Trace::new(folder, &name);
        let Some(state) = Self::check(options, disk, folder)? else {
            return Err(ServeError::Exists { name });
        };
        device.reopen()?;
        let protocol = state.protocol();
        let recipe = Recipe::new(options, disk, protocol);
        // Its daemon may have been killed before it came to this, or on the way to another size.
        recipe.set_up_again(device)?;
        let wanted = DeviceState::new(options, disk, protocol);
        if state != wanted {
            trace.write(&wanted)?;
        }
        Ok(Self {
            control: Control::open()?,
            device: Arc::clone(device),
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
        // Whatever else differs does not matter then.
        if !options.backend.outlives_daemon() {
            return Err(ServeError::Forgets { name });
        }
        let differences = state.differences(&DeviceState::new(options, disk, state.protocol()));
        match differences.is_empty() {
            true => Ok(Some(state)),
            false => Err(ServeError::Differs { name, differences }),
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

    /// Returns where requests in flight are written down.
    pub(super) fn log(&self) -> &InFlightLog {
        &self.log
    }

    /// Closes the device and leaves it to the next daemon.
    ///
    /// # Errors
    ///
    /// What the system said; it is open until the process ends then.
    pub(super) fn leave(&mut self) -> std::io::Result<()> {
        // Dropping does not destroy it.
        self.taken_over = true;
        self.device.close()
    }

    /// Closes the device and destroys it.
    ///
    /// # Errors
    ///
    /// [`DestroyError`] while it is attached, or something else has it open.
    pub fn destroy(mut self) -> Result<(), DestroyError> {
        let destroyed = self.close_and_destroy();
        if destroyed.is_ok() {
            self.trace.remove();
        }
        // Dropping does not try again.
        self.taken_over = true;
        destroyed
    }

    /// Returns the device's name.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    fn close_and_destroy(&self) -> Result<(), DestroyError> {
        // Where it cannot be closed it is in use, which the kernel tells.
        let _ = self.device.close();
        self.control.destroy(&self.name)
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if self.taken_over {
            return;
        }
        match self.close_and_destroy() {
            Ok(()) => self.trace.remove(),
            Err(error) => tracing::error!(device = %self.name, "{error}"),
        }
    }
}
