//! virtio-blk: features, the configuration space, requests and their answers (VIRTIO 1.3, 5.2).

mod config;
mod features;
mod geometry;
mod operation;
mod request;
mod status;

pub use config::{CONFIG_BYTES, ConfigSpace};
pub use features::{Features, Refused};
pub use geometry::{Geometry, SECTOR_BYTES, SERIAL_BYTES, SectorRange};
pub use operation::{Data, Operation};
pub use request::{Ranges, Request, parse};
pub use status::Status;
