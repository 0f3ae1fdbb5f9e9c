//! A frontend that keeps the in-flight log: what a killed daemon had in flight is finished by the next one, once.

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

use super::alone;
use super::daemon::Daemon;

const SIZE: u16 = 64;
const BLOCK: usize = 4096;
const VERSION_1: u64 = 1 << 32;
const FLUSH: u64 = 1 << 9;
const PATIENCE: Duration = Duration::from_secs(60);

/// The log, as a frontend keeps it.
type Log = (VhostUserInflight, File);

/// A connection, with the queue of a driver started on it.
struct Connection {
    _frontend: Frontend,
    kick: EventFd,
    _call: EventFd,
}

impl Connection {
    /// Connects to `daemon`, and starts the queue of `driver`, of which a packed one is at the start of its ring. A `log`
    /// that is there goes with it, otherwise there is one from then on.
    fn new(daemon: &Daemon, driver: &mut BlockDriver, log: &mut Option<Log>) -> Self {
        let mut frontend = Frontend::connect(daemon.socket(), 1).expect("a daemon");
        frontend.set_owner().unwrap();
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let config = driver.queue.config();
        let features = config.features.bits() | VERSION_1 | FLUSH | protocol;
        assert_eq!(frontend.get_features().unwrap() & features, features);
        let protocol = frontend.get_protocol_features().unwrap();
        let wanted =
            VhostUserProtocolFeatures::INFLIGHT_SHMFD | VhostUserProtocolFeatures::REPLY_ACK;
        assert!(protocol.contains(wanted), "{protocol:?}");
        frontend.set_protocol_features(wanted).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        frontend.set_features(features).unwrap();
        let (description, file) = log.get_or_insert_with(|| {
            let asked = VhostUserInflight::new(0, 0, 1, SIZE);
            frontend.get_inflight_fd(&asked).expect("a log")
        });
        frontend
            .set_inflight_fd(description, file.as_raw_fd())
            .unwrap();
        let (memory, start, bytes) = driver.memory().file().unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: start.0,
            memory_size: bytes,
            // The frontend's own addresses are the guest's, too.
            userspace_addr: start.0,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        frontend.set_mem_table(&[region]).unwrap();
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
            _frontend: frontend,
            kick,
            _call: call,
        }
    }

    /// Takes what comes back until there are `count` of `done`.
    fn until(&self, count: usize, driver: &mut BlockDriver, done: &mut BTreeSet<u16>) {
        let begun = Instant::now();
        self.kick.write(1).unwrap();
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

fn pattern(ticket: u16) -> Vec<u8> {
    (0..BLOCK)
        .map(|at| (at as u16 ^ (ticket * 37)) as u8)
        .collect()
}

#[test]
fn what_a_killed_daemon_had_in_flight_is_finished_once() {
    let _alone = alone();
    for features in [
        RingFeatures::EVENT_IDX,
        RingFeatures::EVENT_IDX | RingFeatures::INDIRECT_DESC,
        RingFeatures::EVENT_IDX | RingFeatures::RING_PACKED,
    ] {
        let folder = tempfile::tempdir().unwrap();
        // They come back in another order than they were taken in.
        let disk = folder.path().join("disk");
        let backend = format!(
            "delay,latency=5ms..400ms:ram,size=8M,path={}",
            disk.display()
        );
        let offered = ["--features", "event_idx,indirect_desc,ring_packed"];
        let mut daemon = Daemon::serve(&backend, &offered);
        let mut driver = BlockDriver::new(SIZE, BLOCK as u32, features).unwrap();
        let (mut log, mut done) = (None, BTreeSet::new());
        let mut connection = Connection::new(&daemon, &mut driver, &mut log);
        let mut tickets = Vec::new();
        for index in 0..20 {
            let ticket = driver.write(8 * index, &pattern(index as u16)).unwrap();
            tickets.push(ticket);
        }
        driver.queue.publish();
        for count in [4, 8, 12] {
            connection.until(count, &mut driver, &mut done);
            daemon.replace_killed();
            connection = Connection::new(&daemon, &mut driver, &mut log);
        }
        connection.until(tickets.len(), &mut driver, &mut done);
        assert_eq!(done, tickets.iter().copied().collect());
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(
            driver.poll(),
            None,
            "{features:?}: more came than was asked for"
        );
        // Each where it belongs, and the queue goes on.
        let read = |index: u64| driver.read(8 * index, BLOCK as u32).unwrap();
        let tickets: Vec<u16> = (0..20).map(read).collect();
        driver.queue.publish();
        connection.until(tickets.len(), &mut driver, &mut BTreeSet::new());
        for (index, ticket) in (0..).zip(tickets) {
            assert!(driver.data(ticket) == pattern(index), "block {index}");
        }
        drop(connection);
        daemon.stop();
    }
}
