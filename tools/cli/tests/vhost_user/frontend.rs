//! A frontend, message by message, with the queue of a driver.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::ring::RingFeatures;
use vhost::vhost_user::message::{
    VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use super::daemon::Daemon;

pub(crate) const SIZE: u16 = 64;
pub(crate) const BLOCK: usize = 4096;
const VERSION_1: u64 = 1 << 32;
const FLUSH: u64 = 1 << 9;
const PATIENCE: Duration = Duration::from_secs(60);

/// The log, as a frontend keeps it.
pub(crate) type Log = (VhostUserInflight, File);

/// A connection, with the queue of a driver started on it.
pub(crate) struct Connection {
    pub(crate) frontend: Frontend,
    kick: EventFd,
    _call: EventFd,
}

impl Connection {
    /// Connects to `daemon`, and starts the queue of `driver`, of which a packed one is at the start of its ring.
    pub(crate) fn new(daemon: &Daemon, driver: &mut BlockDriver) -> Self {
        let frontend = agreed(daemon, driver);
        Self::start(frontend, driver)
    }

    /// The same. A `log` that is there goes with it, otherwise there is one from then on.
    pub(crate) fn logged(daemon: &Daemon, driver: &mut BlockDriver, log: &mut Option<Log>) -> Self {
        let mut frontend = agreed(daemon, driver);
        let (description, file) = log.get_or_insert_with(|| {
            let asked = VhostUserInflight::new(0, 0, 1, SIZE);
            frontend.get_inflight_fd(&asked).expect("a log")
        });
        frontend
            .set_inflight_fd(description, file.as_raw_fd())
            .unwrap();
        Self::start(frontend, driver)
    }

    fn start(mut frontend: Frontend, driver: &mut BlockDriver) -> Self {
        share(&frontend, driver);
        let config = driver.queue.config();
        let (kick, call) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        frontend.set_vring_num(0, SIZE).unwrap();
        let packed = config.features.contains(RingFeatures::RING_PACKED);
        frontend
            .set_vring_base(0, if packed { 1 << 15 } else { 0 })
            .unwrap();
        let areas = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: config.descriptor_area.0,
            used_ring_addr: config.device_area.0,
            avail_ring_addr: config.driver_area.0,
            log_addr: None,
        };
        frontend.set_vring_addr(0, &areas).unwrap();
        frontend.set_vring_kick(0, &kick).unwrap();
        frontend.set_vring_call(0, &call).unwrap();
        frontend.set_vring_enable(0, true).unwrap();
        Self {
            frontend,
            kick,
            _call: call,
        }
    }

    /// Brings another eventfd for kicks, with which a queue that was stopped is started.
    pub(crate) fn replace_kick(&mut self) {
        self.kick = EventFd::new(0).unwrap();
        self.frontend.set_vring_kick(0, &self.kick).unwrap();
    }

    /// Tells the device to look.
    pub(crate) fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Takes what comes back until there are `count` of `done`.
    pub(crate) fn until(&self, count: usize, driver: &mut BlockDriver, done: &mut BTreeSet<u16>) {
        let begun = Instant::now();
        self.kick();
        while done.len() < count {
            match driver.poll() {
                Some(answer) => {
                    assert_eq!(answer.status, 0, "{answer:?}");
                    assert!(done.insert(answer.ticket), "{answer:?} came twice");
                }
                None => std::thread::yield_now(),
            }
            assert!(begun.elapsed() < PATIENCE, "{} of {count}", done.len());
        }
    }
}

/// Connects to `daemon`, and agrees on the features of `driver`.
fn agreed(daemon: &Daemon, driver: &BlockDriver) -> Frontend {
    let mut frontend = Frontend::connect(daemon.socket(), 1).expect("a daemon");
    frontend.set_owner().unwrap();
    let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    let config = driver.queue.config();
    let features = config.features.bits() | VERSION_1 | FLUSH | protocol;
    assert_eq!(frontend.get_features().unwrap() & features, features);
    let protocol = frontend.get_protocol_features().unwrap();
    let wanted = VhostUserProtocolFeatures::INFLIGHT_SHMFD | VhostUserProtocolFeatures::REPLY_ACK;
    assert!(protocol.contains(wanted), "{protocol:?}");
    frontend.set_protocol_features(wanted).unwrap();
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    frontend.set_features(features).unwrap();
    frontend
}

/// Shares the memory of `driver`, whose addresses are the guest's, too.
pub(crate) fn share(frontend: &Frontend, driver: &mut BlockDriver) {
    let (memory, start, bytes) = driver.memory().file().unwrap();
    let region = VhostUserMemoryRegionInfo {
        guest_phys_addr: start.0,
        memory_size: bytes,
        userspace_addr: start.0,
        mmap_offset: 0,
        mmap_handle: memory.as_raw_fd(),
    };
    frontend.set_mem_table(&[region]).unwrap();
}

/// Returns the data of block `ticket`.
pub(crate) fn pattern(ticket: u16) -> Vec<u8> {
    (0..BLOCK)
        .map(|at| (at as u16 ^ (ticket * 37)) as u8)
        .collect()
}
