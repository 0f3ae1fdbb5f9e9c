//! `/dev/vduse/control`: creates and destroys devices.

use crate::abi::{VDUSE_API_VERSION, VDUSE_API_VERSION_1};
use crate::{DeviceConfig, Name, ProtocolFeatures, ioctl};
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use thiserror::Error;

const PATH: &str = "/dev/vduse/control";

/// The open control file. Its API version is copied to the devices created through it.
///
/// ```no_run
/// use vduse::Control;
///
/// let control = Control::open()?;
/// let version = control.set_newest_api_version()?;
/// control.set_features(control.features()?)?;
/// println!("devices made through this file speak version {version}");
/// # Ok::<(), vduse::ControlError>(())
/// ```
#[derive(Debug)]
pub struct Control {
    file: File,
}

/// Why the control file cannot be used.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The kernel offers no VDUSE.
    #[error("{PATH} does not exist: the kernel module vduse is not loaded; run: modprobe vduse")]
    Missing,
    /// Only root may open it unless a udev rule says otherwise.
    #[error(
        "{PATH} may not be opened by this user; run as root, or add the udev rule \
         SUBSYSTEM==\"vduse\", GROUP=\"...\", MODE=\"0660\""
    )]
    Permission,
    /// The kernel does not know this API version.
    #[error("VDUSE API version {version} is not known to this kernel; use version 0")]
    ApiVersion {
        /// The version asked for.
        version: u64,
    },
    /// The kernel does not have these protocol features.
    #[error(
        "VDUSE protocol features {:#x} are not known to this kernel; ask it for those that are",
        features.bits()
    )]
    Features {
        /// Those asked for.
        features: ProtocolFeatures,
    },
    /// Anything else.
    #[error("{PATH}: {operation} failed: {reason}")]
    Other {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        reason: io::Error,
    },
}

/// Why a device was not created.
#[derive(Debug, Error)]
pub enum CreateError {
    /// There is a device of this name.
    #[error(
        "VDUSE device {name} exists already; choose another name, or destroy it if no process \
         serves it"
    )]
    Exists {
        /// The name.
        name: Name,
    },
    /// The kernel refused the description.
    #[error(
        "VDUSE device {name} was refused by the kernel (EINVAL): check device id ({device_id}), \
         features ({features:#x}: bit 33 is required, bit 11 forbidden for block), queues \
         ({queue_count} of at most 65535), configuration space ({config_len} bytes of at most a \
         page), and the API version: 0 has neither groups nor address spaces, 1 has some of both"
    )]
    Invalid {
        /// The name.
        name: Name,
        /// The device id.
        device_id: u32,
        /// The features.
        features: u64,
        /// The number of virtqueues.
        queue_count: u32,
        /// Bytes of configuration space.
        config_len: usize,
    },
    /// The device type needs a capability (network: `CAP_NET_ADMIN`).
    #[error(
        "VDUSE device {name} with device id {device_id} may not be created by this user; run as \
         root or with CAP_NET_ADMIN"
    )]
    Permission {
        /// The name.
        name: Name,
        /// The device id.
        device_id: u32,
    },
    /// Anything else.
    #[error("VDUSE device {name} could not be created: {reason}")]
    Other {
        /// The name.
        name: Name,
        /// What the kernel said.
        reason: io::Error,
    },
}

/// Why a device was not destroyed.
#[derive(Debug, Error)]
pub enum DestroyError {
    /// It is attached, or a process has it open.
    #[error(
        "VDUSE device {name} is in use: it is attached to the vDPA bus (vdpa dev del {name}) or a \
         process has /dev/vduse/{name} open (end it)"
    )]
    Busy {
        /// The name.
        name: Name,
    },
    /// There is no device of this name.
    #[error("VDUSE device {name} does not exist; ls /dev/vduse shows those that do")]
    Unknown {
        /// The name.
        name: Name,
    },
    /// Anything else.
    #[error("VDUSE device {name} could not be destroyed: {reason}")]
    Other {
        /// The name.
        name: Name,
        /// What the kernel said.
        reason: io::Error,
    },
}

impl Control {
    /// Opens `/dev/vduse/control`, close-on-exec.
    pub fn open() -> Result<Self, ControlError> {
        Self::open_at(Path::new(PATH))
    }

    fn open_at(path: &Path) -> Result<Self, ControlError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)
            .map_err(ControlError::from_open)?;
        Ok(Self { file })
    }

    /// Sets the API version of devices created through this file (`VDUSE_SET_API_VERSION`): 0, or 1
    /// since Linux 7.0.
    ///
    /// Call this before [`Control::create`]: the kernel's default is not the same everywhere.
    pub fn set_api_version(&self, version: u64) -> Result<(), ControlError> {
        ioctl::set_api_version(self.as_fd(), version).map_err(|errno| match errno {
            Errno::EINVAL => ControlError::ApiVersion { version },
            _ => other("VDUSE_SET_API_VERSION", errno),
        })
    }

    /// Sets the newest API version that both the kernel and this crate know. Returns it.
    pub fn set_newest_api_version(&self) -> Result<u64, ControlError> {
        let version = match self.set_api_version(VDUSE_API_VERSION_1) {
            Ok(()) => return Ok(VDUSE_API_VERSION_1),
            Err(ControlError::ApiVersion { .. }) => VDUSE_API_VERSION,
            Err(error) => return Err(error),
        };
        self.set_api_version(version).map(|()| version)
    }

    /// The protocol features of this kernel (`VDUSE_GET_FEATURES`): none before Linux 7.3.
    pub fn features(&self) -> Result<ProtocolFeatures, ControlError> {
        match ioctl::get_features(self.as_fd()) {
            Ok(features) => Ok(ProtocolFeatures::from_bits_retain(features)),
            // What the control file answers to every ioctl that it does not know.
            Err(Errno::EINVAL) => Ok(ProtocolFeatures::empty()),
            Err(errno) => Err(other("VDUSE_GET_FEATURES", errno)),
        }
    }

    /// Sets the protocol features of devices created through this file (`VDUSE_SET_FEATURES`), out of
    /// [`Control::features`]. They do not depend on the API version.
    pub fn set_features(&self, features: ProtocolFeatures) -> Result<(), ControlError> {
        if features.is_empty() && self.features()?.is_empty() {
            // Before Linux 7.3 there is nothing to be set.
            return Ok(());
        }
        ioctl::set_features(self.as_fd(), features.bits()).map_err(|errno| match errno {
            Errno::EINVAL => ControlError::Features { features },
            _ => other("VDUSE_SET_FEATURES", errno),
        })
    }

    /// The API version of this file (`VDUSE_GET_API_VERSION`).
    ///
    /// Since Linux 7.0, asking on a file that has no version yet *selects* version 1: call
    /// [`Control::set_api_version`] first.
    pub fn api_version(&self) -> Result<u64, ControlError> {
        ioctl::get_api_version(self.as_fd()).map_err(|errno| other("VDUSE_GET_API_VERSION", errno))
    }

    /// Creates a device (`VDUSE_CREATE_DEV`). It outlives this process until
    /// [`Control::destroy`].
    pub fn create(&self, config: &DeviceConfig) -> Result<(), CreateError> {
        let name = config.name.clone();
        ioctl::create_dev(self.as_fd(), &config.encode()).map_err(|errno| match errno {
            Errno::EEXIST => CreateError::Exists { name },
            Errno::EINVAL => CreateError::Invalid {
                name,
                device_id: config.device_id,
                features: config.features,
                queue_count: config.queue_count,
                config_len: config.config.len(),
            },
            Errno::EPERM | Errno::EACCES => CreateError::Permission {
                name,
                device_id: config.device_id,
            },
            _ => CreateError::Other {
                name,
                reason: errno.into(),
            },
        })
    }

    /// Destroys a device (`VDUSE_DESTROY_DEV`). It must be detached from the vDPA bus and closed,
    /// every duplicate of its file included.
    pub fn destroy(&self, name: &Name) -> Result<(), DestroyError> {
        let known = name.clone();
        ioctl::destroy_dev(self.as_fd(), &name.to_kernel()).map_err(|errno| match errno {
            Errno::EBUSY => DestroyError::Busy { name: known },
            Errno::EINVAL | Errno::ENOENT => DestroyError::Unknown { name: known },
            _ => DestroyError::Other {
                name: known,
                reason: errno.into(),
            },
        })
    }
}

impl ControlError {
    fn from_open(reason: io::Error) -> Self {
        match Errno::from_raw(reason.raw_os_error().unwrap_or(0)) {
            Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => Self::Missing,
            Errno::EACCES | Errno::EPERM => Self::Permission,
            _ => Self::Other {
                operation: "open",
                reason,
            },
        }
    }
}

fn other(operation: &'static str, errno: Errno) -> ControlError {
    ControlError::Other {
        operation,
        reason: errno.into(),
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_node_asks_for_the_module() {
        let folder = tempfile::tempdir().unwrap();
        let error = Control::open_at(&folder.path().join("control")).unwrap_err();
        assert!(matches!(error, ControlError::Missing));
        assert!(error.to_string().contains("modprobe vduse"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_control_node_fails_with_the_operation() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let control = Control::open_at(file.path()).unwrap();
        let error = control.set_api_version(0).unwrap_err().to_string();
        assert!(error.contains("VDUSE_SET_API_VERSION"), "{error}");
        let error = control.set_newest_api_version().unwrap_err().to_string();
        assert!(error.contains("VDUSE_SET_API_VERSION"), "{error}");
        let error = control.features().unwrap_err().to_string();
        assert!(error.contains("VDUSE_GET_FEATURES"), "{error}");
        let suspend = ProtocolFeatures::SUSPEND;
        let error = control.set_features(suspend).unwrap_err().to_string();
        assert!(error.contains("VDUSE_SET_FEATURES"), "{error}");
        let name = Name::try_from("d0").unwrap();
        assert!(matches!(
            control.destroy(&name),
            Err(DestroyError::Other { .. })
        ));
    }
}
