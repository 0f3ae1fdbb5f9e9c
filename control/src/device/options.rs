//! What a person asks for when serving a device, checked before anything is made.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pollux_dataplane::limits::{QUEUE_SIZE_MAX, QUEUE_SIZE_MIN, QUEUES_MAX};
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::PollMode;
use vduse::Name;

use super::cpus::{HostCpus, all_usable, place};
use super::topology::Topology;
use super::{BackendSpec, CpuListError, InterruptCpus, UmemKind};
use crate::sandbox::{DiskPaths, Outside, Place};

/// What virtqueues use when nothing else is asked for. Through virtio_vdpa each indirect table is one more buffer
/// to allocate, to map into VDUSE's bounce memory and to unmap: without them a request of three descriptors was
/// a tenth to a sixth faster.
pub const DEFAULT_RING_FEATURES: RingFeatures = RingFeatures::EVENT_IDX;

/// Reads a list of features of virtqueues, such as `ring_packed,event_idx` or `ring_packed+event_idx`, or
/// `none`.
///
/// # Errors
///
/// What is not the name of one.
pub fn parse_ring_features(text: &str) -> Result<RingFeatures, OptionsError> {
    if text == "none" {
        return Ok(RingFeatures::empty());
    }
    let named = |name: &str| {
        RingFeatures::from_name(&name.to_ascii_uppercase())
            .ok_or_else(|| OptionsError::RingFeature(name.to_owned()))
    };
    text.split([',', '+'])
        .map(named)
        .try_fold(RingFeatures::empty(), |all, one| Ok(all | one?))
}

/// A device to serve.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Its name, in VDUSE and on the vDPA bus.
    pub name: Name,
    /// Its storage.
    pub backend: BackendSpec,
    /// Virtqueues, each with a worker.
    pub queues: u16,
    /// Entries of each virtqueue.
    pub queue_size: u16,
    /// What virtqueues may use, if the driver wants it.
    pub ring_features: RingFeatures,
    /// The CPU of each worker; chosen here when left out.
    pub cpus: Option<Vec<usize>>,
    /// The pool whose threads its queues share; threads of their own when left out.
    pub pool: Option<String>,
    /// How workers wait, as the pool's threads do.
    pub mode: PollMode,
    /// How long interrupts may be held while more completions are on their way.
    pub interrupt_hold: Duration,
    /// Which CPUs handle interrupts.
    pub interrupt_cpus: InterruptCpus,
    /// One pass of a worker in this many is timed for the latency histogram.
    pub latency_sample: NonZeroU32,
    /// How long a backend may hold a request before that fails, with all others of its queue; for ever when left
    /// out.
    pub io_timeout: Option<Duration>,
    /// Seconds that the kernel waits for an answer before it gives the device up; the kernel's own
    /// default when left out.
    pub msg_timeout_s: Option<u32>,
    /// What the data of a disk of this host goes through.
    pub umem: UmemKind,
    /// Size of VDUSE's bounce region; the kernel's own default when left out.
    pub bounce_size_bytes: Option<u64>,
    /// Where frontends of the vhost-user protocol connect; a device of the kernel's VDUSE when left out.
    pub vhost_user: Option<PathBuf>,
}

/// Sizes of the bounce region, in bytes. VDUSE takes 1 MiB to 1 GiB (drivers/vdpa/vdpa_user/vduse_dev.c), but Linux 7.3 makes
/// requests of 4 MiB, each segment of which takes a power of two: with 5 MiB they were seen to wait for ever.
const BOUNCE_SIZES: RangeInclusive<u64> = 16 << 20..=1 << 30;

/// VDUSE would round the size of the bounce region down to this.
const PAGE_BYTES: u64 = 4096;

/// Why a device cannot be served as asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No queues.
    #[error("0 queues: a disk needs at least one")]
    NoQueues,
    /// More queues than Linux would use; interrupts of the rest could loop in the kernel for ever.
    #[error("{queues} queues are more than the {cpus} online CPUs: use at most {cpus}")]
    Queues {
        /// Asked for.
        queues: u16,
        /// Online.
        cpus: usize,
    },
    /// Not a size that the driver takes.
    #[error(
        "queue size {0} is not a power of two from {QUEUE_SIZE_MIN} to {QUEUE_SIZE_MAX}: use for example 256"
    )]
    QueueSize(u16),
    /// Not a size that VDUSE takes.
    #[error("bounce size {0} is not a multiple of 4096 from 16M to 1G: use for example 128M")]
    BounceSize(u64),
    /// Not a feature of virtqueues.
    #[error(
        "feature '{0}' is not one of indirect_desc, event_idx, ring_packed, in_order: name those to offer, or none"
    )]
    RingFeature(String),
    /// CPUs.
    #[error(transparent)]
    Cpus(#[from] CpuListError),
}

impl DeviceOptions {
    /// Returns what the device takes of the file system.
    pub(crate) fn places(&self) -> Vec<Place> {
        let socket = self.vhost_user.clone().map(Place::Socket);
        self.backend.places().into_iter().chain(socket).collect()
    }

    /// Says whether its storage is below `paths`. A socket is looked at when the device is served.
    ///
    /// # Errors
    ///
    /// [`Outside`] when it is not.
    pub fn check_storage(&self, paths: &DiskPaths) -> Result<(), Outside> {
        paths.check(&self.places(), None)
    }

    /// Returns the CPU of each worker that is to have a thread of its own, when everything asked for is possible here. There
    /// are workers on those `taken`.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for the first thing that is not.
    pub fn check(&self, taken: &[usize]) -> Result<Vec<usize>, OptionsError> {
        self.check_for(&HostCpus::look(), taken)
    }

    fn check_for(&self, host: &HostCpus, taken: &[usize]) -> Result<Vec<usize>, OptionsError> {
        let (queues, online) = (self.queues, &host.online);
        if queues == 0 {
            return Err(OptionsError::NoQueues);
        }
        if usize::from(queues) > online.len().min(usize::from(QUEUES_MAX)) {
            return Err(OptionsError::Queues {
                queues,
                cpus: online.len(),
            });
        }
        let size = self.queue_size;
        if !size.is_power_of_two() || !(QUEUE_SIZE_MIN..=QUEUE_SIZE_MAX).contains(&size) {
            return Err(OptionsError::QueueSize(size));
        }
        if let Some(bytes) = self.bounce_size_bytes
            && !(BOUNCE_SIZES.contains(&bytes) && bytes.is_multiple_of(PAGE_BYTES))
        {
            return Err(OptionsError::BounceSize(bytes));
        }
        if let InterruptCpus::List(cpus) = &self.interrupt_cpus {
            all_usable(cpus, online)?;
        }
        if self.pool.is_some() {
            return Ok(Vec::new());
        }
        let (named, topology) = (self.cpus.as_deref(), Topology::of_machine());
        Ok(place(named, queues, host, taken, topology)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> DeviceOptions {
        DeviceOptions {
            name: "d0".parse().unwrap(),
            backend: "null,size=1G".parse().unwrap(),
            queues: 2,
            queue_size: 256,
            ring_features: DEFAULT_RING_FEATURES,
            cpus: None,
            pool: None,
            mode: PollMode::Busy,
            interrupt_hold: Duration::ZERO,
            interrupt_cpus: InterruptCpus::Auto,
            latency_sample: NonZeroU32::MIN,
            io_timeout: None,
            msg_timeout_s: None,
            umem: UmemKind::Off,
            bounce_size_bytes: None,
            vhost_user: None,
        }
    }

    #[test]
    fn features_are_named_as_in_the_specification() {
        let both = RingFeatures::RING_PACKED | RingFeatures::IN_ORDER;
        assert_eq!(parse_ring_features("ring_packed,in_order"), Ok(both));
        assert_eq!(parse_ring_features("ring_packed+in_order"), Ok(both));
        assert_eq!(parse_ring_features("none"), Ok(RingFeatures::empty()));
        let unknown = parse_ring_features("event_idx,ring_reset").unwrap_err();
        assert!(unknown.to_string().contains("'ring_reset' is not one of"));
        assert!(parse_ring_features("").is_err());
    }

    #[test]
    fn only_what_is_possible_here_passes() {
        let host = HostCpus {
            online: vec![0, 1, 2, 3],
            allowed: vec![0, 1, 2, 3],
            usable: &[0, 1, 2, 3],
        };
        assert_eq!(options().check_for(&host, &[]), Ok(vec![2, 3]));
        let none = DeviceOptions {
            queues: 0,
            ..options()
        };
        assert_eq!(none.check_for(&host, &[]), Err(OptionsError::NoQueues));
        let absent = DeviceOptions {
            interrupt_cpus: InterruptCpus::List(vec![9]),
            ..options()
        };
        assert!(matches!(
            absent.check_for(&host, &[]),
            Err(OptionsError::Cpus(_))
        ));
        let many = DeviceOptions {
            queues: 5,
            ..options()
        };
        let refused = Err(OptionsError::Queues { queues: 5, cpus: 4 });
        assert_eq!(many.check_for(&host, &[]), refused);
        for bytes in [0, (16 << 20) - 4096, (16 << 20) + 1, (1 << 30) + 4096] {
            let odd = DeviceOptions {
                bounce_size_bytes: Some(bytes),
                ..options()
            };
            assert_eq!(
                odd.check_for(&host, &[]),
                Err(OptionsError::BounceSize(bytes))
            );
        }
        for queue_size in [0, 2, 100, 2048] {
            let odd = DeviceOptions {
                queue_size,
                ..options()
            };
            assert_eq!(
                odd.check_for(&host, &[]),
                Err(OptionsError::QueueSize(queue_size))
            );
        }
    }
}
