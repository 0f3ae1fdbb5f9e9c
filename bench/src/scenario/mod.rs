//! What to measure, as data: a TOML file, or one that comes with `pollux`.

mod builtin;
mod checked;
mod parse;
mod pattern;

use std::fmt;

use pollux_dataplane::ring::RingFeatures;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::size;

pub use builtin::builtin;
pub use parse::{ScenarioError, parse, read};
pub(crate) use pattern::Access;
pub use pattern::Pattern;

/// How requests get to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Through shared memory of this process, without the kernel.
    Loopback,
    /// Through memory that a daemon of the run's own shares, which is told of it over a socket.
    VhostUser,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name: letters, digits, `-` and `_`.
    #[serde(deserialize_with = "checked::name")]
    pub name: String,
    /// What it shows.
    #[serde(default)]
    pub shows: String,
    /// How requests get to the worker.
    pub transport: Transport,
    /// The disk, as `pollux serve --backend` has it. What is written overwrites what it holds.
    pub backend: String,
    /// Virtqueues, a worker and a client each: one.
    #[serde(default = "one_queue", deserialize_with = "checked::queues")]
    pub queues: u16,
    /// The virtqueue.
    #[serde(default)]
    pub ring: Ring,
    /// What is asked of the disk, as fio names it.
    pub rw: Pattern,
    /// Reads in 100 requests of `rw` and `randrw`.
    #[serde(default = "half", deserialize_with = "checked::percent")]
    pub rwmixread: u32,
    /// Size of a request, with suffix k or M: 512 to 1M.
    #[serde(deserialize_with = "checked::bs")]
    pub bs: String,
    /// Load before each point.
    pub ramp_time_ms: u32,
    /// Measured time of each point.
    #[serde(deserialize_with = "checked::runtime_ms")]
    pub runtime_ms: u32,
    /// How often each point is measured, in turn with the others.
    #[serde(deserialize_with = "checked::rounds")]
    pub rounds: u32,
    /// CPUs; those that are left out are chosen.
    #[serde(default)]
    pub cpus: Cpus,
    /// The points of a round, in their order.
    pub loads: Vec<Load>,
}

/// The virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ring {
    /// Split or packed.
    pub format: Format,
    /// Entries, a power of two.
    #[serde(deserialize_with = "checked::queue_size")]
    pub size: u16,
    /// Chains lie in indirect tables (VIRTIO_F_INDIRECT_DESC).
    pub indirect: bool,
    /// Notifications are asked for by index (VIRTIO_F_EVENT_IDX).
    pub event_idx: bool,
    /// Chains are returned in their order (VIRTIO_F_IN_ORDER).
    pub in_order: bool,
}

/// Format of a virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// VIRTIO 1.3, 2.7.
    Split,
    /// VIRTIO 1.3, 2.8.
    Packed,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::VhostUser => "vhost-user",
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "split",
            Self::Packed => "packed",
        })
    }
}

/// Which CPUs the two threads stay on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cpus {
    /// The client's.
    pub client: Option<usize>,
    /// The worker's.
    pub worker: Option<usize>,
}

/// Points of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Whether requests wait for one another.
    pub kind: LoadKind,
    /// Of a closed load: requests kept in flight, a point each.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "checked::iodepths"
    )]
    pub iodepths: Vec<u32>,
    /// Of an open load: arrivals, as fractions of the most that the closed loads before it reached in the same
    /// round, a point each.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "checked::rates"
    )]
    pub rates: Vec<f64>,
}

/// Whether requests wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadKind {
    /// A request that completes is replaced.
    Closed,
    /// Requests arrive by a Poisson process.
    Open,
}

/// Descriptors of a request: header, data, status.
const DESCRIPTORS: u32 = 3;
/// Requests that an open load has room for, where the ring has.
pub(crate) const IODEPTH_MAX: u32 = 256;

impl Default for Ring {
    fn default() -> Self {
        Self {
            format: Format::Split,
            size: 1024,
            indirect: false,
            event_idx: true,
            in_order: false,
        }
    }
}

impl Ring {
    /// Returns what driver and device agree on.
    pub fn features(&self) -> RingFeatures {
        let mut features = RingFeatures::empty();
        features.set(RingFeatures::RING_PACKED, self.format == Format::Packed);
        features.set(RingFeatures::INDIRECT_DESC, self.indirect);
        features.set(RingFeatures::EVENT_IDX, self.event_idx);
        features.set(RingFeatures::IN_ORDER, self.in_order);
        features
    }

    /// Returns how many requests it has room for.
    pub fn requests(&self) -> u32 {
        u32::from(self.size) / if self.indirect { 1 } else { DESCRIPTORS }
    }
}

impl Scenario {
    /// Returns the bytes of a request.
    pub fn block_bytes(&self) -> u32 {
        // In range: it was checked as it was read.
        size::bytes(&self.bs).map_or(0, |bytes| bytes as u32)
    }

    /// Returns it as a file that [`read`] takes.
    ///
    /// # Panics
    ///
    /// Never: all of it is what TOML has.
    pub fn to_toml(&self) -> String {
        pollux_toml::to_string(self)
    }

    /// Returns how long it takes at least, in ms.
    pub fn least_ms(&self) -> u64 {
        let points = self
            .loads
            .iter()
            .map(|it| it.iodepths.len() + it.rates.len());
        let each = u64::from(self.ramp_time_ms) + u64::from(self.runtime_ms);
        points.sum::<usize>() as u64 * each * u64::from(self.rounds)
    }

    /// Checks what single values do not tell.
    fn check(&self) -> Result<(), String> {
        if self.loads.is_empty() {
            return Err("loads: nothing to do; add for example\n[[loads]]\nkind = \"closed\"\niodepths = [1, 32]".to_owned());
        }
        let mut is_known = false;
        for load in &self.loads {
            match (load.kind, load.iodepths.is_empty(), load.rates.is_empty()) {
                (LoadKind::Closed, false, true) => is_known = true,
                (LoadKind::Closed, ..) => {
                    return Err("loads: a closed load needs iodepths, and has no rates; write iodepths = [1, 32]".to_owned());
                }
                (LoadKind::Open, true, false) if is_known => {}
                (LoadKind::Open, true, false) => {
                    return Err("loads: an open load needs a closed one before it, whose IOPS its rates are fractions of".to_owned());
                }
                (LoadKind::Open, ..) => {
                    return Err("loads: an open load needs rates, and has no iodepths; write rates = [0.5, 0.9]".to_owned());
                }
            }
            let room = self.ring.requests();
            if let Some(iodepth) = load.iodepths.iter().find(|&&it| it > room) {
                return Err(format!(
                    "iodepth {iodepth}: a ring of {} entries has room for {room} requests; raise ring.size or lower it",
                    self.ring.size
                ));
            }
        }
        Ok(())
    }
}

fn one_queue() -> u16 {
    1
}

fn half() -> u32 {
    50
}
