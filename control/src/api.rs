//! The control API: JSON over HTTP on a Unix socket, one a daemon; over TCP, too, if that is asked for, to who knows a token.
//!
//! `GET /v1/openapi.json` describes all of it; what there is stands in `router.rs`. `GET /metrics` is for Prometheus: see
//! `control/METRICS.md`.
//!
//! Errors are `{"error": "..."}` with a status of 4xx or 5xx, also for paths and methods that there are not, and for bodies that make
//! no sense or are longer than 64 KiB.

mod client;
mod connections;
mod device_schema;
mod devices;
mod health;
mod level;
mod membership;
mod metrics;
mod pause;
mod refusal;
mod router;
#[cfg(test)]
mod sample;
mod server;
mod silence;
mod token;
mod workers;

pub use client::{Client, ClientError, DaemonLevel, Survey};
pub use device_schema::{DeviceKey, KeyKind};
pub use health::{Health, Version};
pub use level::{Level, LogControl, LogLevel, UnknownLevel};
pub use membership::{DeviceBody, DeviceValue};
pub use metrics::{Seen, exposition};
pub(crate) use server::{ApiError, ApiServer};
pub use server::{ApiOptions, ReadDevice, Served};
pub use token::{Token, TokenError};
pub use workers::{ServedQueue, WorkerInfo};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::device::Moment;
use crate::vdpa::Driver;

/// The body of an attach request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachBody {
    /// The driver to bind to.
    pub driver: Driver,
}

/// The body of a successful attach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachedBody {
    /// The driver bound to.
    pub driver: Driver,
    /// The node under /dev.
    pub node: Option<String>,
}

/// The body of a successful hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandedOver {
    /// The daemon that served the device.
    pub pid: u32,
    /// Since when nobody serves it.
    pub since: Moment,
}

/// The body of a resize request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeBody {
    /// Size asked for, in bytes.
    #[schema(maximum = 9007199254740991i64)]
    #[serde(deserialize_with = "whole_number")]
    pub size_bytes: u64,
    /// Smaller will do, too.
    #[serde(default)]
    pub force: bool,
}

/// Takes `4096.0`, too: JSON does not tell it from `4096`, and some programs write all numbers so.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let is_exact = |it: &f64| it.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(it);
    let whole = || number.as_f64().filter(is_exact).map(|it| it as u64);
    let refused = || D::Error::custom(format!("{number} is no whole number"));
    number.as_u64().or_else(whole).ok_or_else(refused)
}

/// The body of a successful resize.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResizedBody {
    /// Name of the device.
    pub name: String,
    /// Size before, in bytes.
    pub before_bytes: u64,
    /// Size from now on, in bytes.
    pub after_bytes: u64,
}

/// The body of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What, why and what to do, on one line.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_however_they_are_written() {
        let size = |text: &str| {
            let body = format!("{{\"size_bytes\": {text}}}");
            serde_json::from_str::<ResizeBody>(&body).map(|body| body.size_bytes)
        };
        for (text, bytes) in [
            ("4096", 4096),
            ("4096.0", 4096),
            ("4.096e3", 4096),
            ("0", 0),
        ] {
            assert_eq!(size(text).unwrap(), bytes);
        }
        assert_eq!(size("18446744073709551615").unwrap(), u64::MAX);
        for text in ["4096.5", "-1", "-0.5", "1e300", "\"1\"", "null"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
