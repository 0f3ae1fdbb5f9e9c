#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod abi;
mod config;
mod control;
mod device;
mod features;
mod ioctl;
mod iotlb;
mod message;
mod name;
mod queue;
pub mod sysfs;

pub use config::DeviceConfig;
pub use control::{Control, ControlError, CreateError, DestroyError};
pub use device::{AddressSpace, Device, DeviceError, OpenError};
pub use features::ProtocolFeatures;
pub use iotlb::{Access, IotlbEntry, IotlbInfo};
pub use message::{Reply, Request, RequestKind};
pub use name::{Name, NameError};
pub use queue::{PackedState, QueueInfo};
