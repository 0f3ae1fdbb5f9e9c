//! The control API: JSON over HTTP on a Unix socket, one a daemon.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/version` | which daemon this is |
//! | `GET /v1/health` | whether control threads answer and no worker is stuck; else with status 503 |
//! | `GET /v1/devices` | every device |
//! | `GET /v1/devices/NAME` | one device |
//! | `POST /v1/devices/NAME/attach` with `{"driver": "virtio"}` | where it is attached |
//! | `POST /v1/devices/NAME/detach` | nothing |
//! | `POST /v1/devices/NAME/hand-over` | who lets go of it, and since when its driver waits |
//! | `POST /v1/devices/NAME/resize` with `{"size_bytes": 1073741824, "force": false}` | its size before and after |
//! | `GET /metrics` | every device for Prometheus, as text: see `control/METRICS.md` |
//! | `POST /v1/reload` | what came of it |
//!
//! Errors are `{"error": "..."}` with a status of 4xx or 5xx, also for paths and methods that there are not, and for bodies that make
//! no sense or are longer than 64 KiB.

mod client;
mod connections;
mod health;
mod metrics;
mod refusal;
#[cfg(test)]
mod sample;
mod server;

pub use client::{Client, ClientError, Survey};
pub use health::{Health, Version};
pub use metrics::{Seen, exposition};
pub use server::Served;
pub(crate) use server::{ApiError, ApiServer};

use serde::{Deserialize, Serialize};

use crate::device::Moment;
use crate::vdpa::Driver;

/// The body of an attach request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachBody {
    /// The driver to bind to.
    pub driver: Driver,
}

/// The body of a successful attach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedBody {
    /// The driver bound to.
    pub driver: Driver,
    /// The node under /dev.
    pub node: Option<String>,
}

/// The body of a successful hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// The daemon that served the device.
    pub pid: u32,
    /// Since when nobody serves it.
    pub since: Moment,
}

/// The body of a resize request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeBody {
    /// Size asked for, in bytes.
    pub size_bytes: u64,
    /// Smaller will do, too.
    #[serde(default)]
    pub force: bool,
}

/// The body of a successful resize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizedBody {
    /// Name of the device.
    pub name: String,
    /// Size before, in bytes.
    pub before_bytes: u64,
    /// Size from now on, in bytes.
    pub after_bytes: u64,
}

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What, why and what to do, on one line.
    pub error: String,
}
