//! A daemon that is killed and followed by another: the driver's requests go on.

mod stores;

use std::time::{Duration, Instant};

use crate::guest::{Daemon, Fio, PATIENCE, Running, in_guest, pollux, read, write};
use crate::vhost::{Device, IN, PLAIN};

/// Where the disk's bytes are; outside of what is looked through for left-overs.
pub(crate) const DISK: &str = "/tmp/recovery-disk";
const SIZE: &str = "64M";

/// Rounds of each torture unless `POLLUX_TORTURE_ROUNDS` says more.
const ROUNDS: u32 = 5;

fn backend() -> String {
    format!("ram,size={SIZE},path={DISK}")
}

const OPTIONS: &[&str] = &["--queues", "2", "--attach", "virtio"];

/// The same, with many requests in flight that are finished in another order.
fn slow_backend() -> String {
    format!("delay,read_latency=200us,write_latency=1ms:{}", backend())
}

/// Starts to serve `backend`; a second time after a daemon was killed.
fn start(backend: &str, features: &str) -> Daemon {
    let options = [OPTIONS, &["--features", features]].concat();
    Daemon::start("d0", backend, &options)
}

fn serve(features: &str) -> Daemon {
    let mut daemon = start(&backend(), features);
    daemon.event("attached");
    daemon
}

/// A disk of zeros, removed at the end.
pub(crate) struct DiskFile;

impl DiskFile {
    pub(crate) fn new() -> Self {
        let _ = std::fs::remove_file(DISK);
        Self
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(DISK);
    }
}

/// Returns what the kernel has counted of the disk's requests.
fn completed(node: &str) -> String {
    read(format!(
        "/sys/block/{}/stat",
        node.trim_start_matches("/dev/")
    ))
    .split_whitespace()
    // Reads completed and writes completed; how many are in flight and for how long changes by itself.
    .enumerate()
    .filter_map(|(place, word)| [0, 4].contains(&place).then_some(word))
    .collect::<Vec<_>>()
    .join(" ")
}

/// Writes both halves in random order and sizes, and compares.
fn verify(node: &str) -> Running {
    Fio::verify(node, "4k", 32, "16M")
        .with("bssplit", "4k/60:8k/20:64k/20")
        .start()
}

/// Numbers without a pattern: xorshift64.
pub(crate) struct Random(u64);

impl Random {
    /// Returns numbers that differ from run to run, and says which.
    pub(crate) fn new() -> Self {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let seed = since.map_or(1, |since| since.as_nanos() as u64) | 1;
        eprintln!("seed {seed:#x}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Kills the daemon `rounds` times at any moment of a verifying load, one in four during its start.
fn torture(backend: &str, features: &str, rounds: u32) {
    let _disk = DiskFile::new();
    eprintln!("features {features}");
    let mut random = Random::new();
    let mut daemon = start(backend, features);
    daemon.event("attached");
    let disk = daemon.disk();
    let mut load = verify(disk.node());
    let mut resumed = Vec::new();
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.below(400)));
        if load.has_ended() {
            load.wait(PATIENCE).succeeded();
            load = verify(disk.node());
        }
        daemon.kill();
        if random.below(4) == 0 {
            let starting = start(backend, features);
            std::thread::sleep(Duration::from_millis(random.below(150)));
            starting.kill();
        }
        // Nobody completes anything now.
        let before = completed(disk.node());
        let begun = Instant::now();
        daemon = start(backend, features);
        while completed(disk.node()) == before && !load.has_ended() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        resumed.push(begun.elapsed().as_millis());
        daemon.event("attached");
    }
    load.wait(3 * PATIENCE).succeeded();
    // And all of it once more, by the last daemon.
    verify(disk.node()).wait(3 * PATIENCE).succeeded();
    for queue in daemon.snapshot().queues {
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
    }
    daemon.stop();
    resumed.sort_unstable();
    eprintln!(
        "{rounds} kills; from start to first request: median {} ms, at most {} ms",
        resumed[resumed.len() / 2],
        resumed[resumed.len() - 1]
    );
}

fn rounds() -> u32 {
    match std::env::var("POLLUX_TORTURE_ROUNDS") {
        Ok(text) => text.parse().expect("POLLUX_TORTURE_ROUNDS is a number"),
        Err(_) => ROUNDS,
    }
}

#[test]
fn killed_at_any_moment_under_a_load_that_verifies() {
    in_guest(|| torture(&backend(), "event_idx", rounds()));
}

#[test]
fn killed_at_any_moment_with_indirect_tables_and_in_order() {
    in_guest(|| torture(&backend(), "event_idx,indirect_desc,in_order", rounds()));
}

#[test]
fn killed_at_any_moment_with_a_packed_ring() {
    in_guest(|| torture(&backend(), "event_idx,ring_packed", rounds()));
}

#[test]
fn killed_at_any_moment_with_a_packed_ring_in_order() {
    let features = "event_idx,indirect_desc,ring_packed,in_order";
    in_guest(|| torture(&backend(), features, rounds()));
}

#[test]
fn killed_at_any_moment_with_a_slow_disk() {
    in_guest(|| torture(&slow_backend(), "event_idx", rounds()));
}

#[test]
fn killed_at_any_moment_with_a_slow_disk_and_a_packed_ring() {
    in_guest(|| torture(&slow_backend(), "event_idx,ring_packed", rounds()));
}

#[test]
fn a_device_that_was_not_attached_is_taken_over() {
    in_guest(|| {
        let _disk = DiskFile::new();
        Daemon::serve("d0", &backend(), &["--queues", "2"]).kill();
        let options = [OPTIONS, &["--msg-timeout", "77"]].concat();
        let mut daemon = Daemon::start("d0", &backend(), &options);
        daemon.event("taken_over");
        daemon.event("attached");
        let shown = daemon.snapshot();
        assert_eq!((shown.msg_timeout_s, shown.taken_over), (Some(77), true));
        Fio::verify(daemon.disk().node(), "4k", 16, "1M").run();
        daemon.stop();
    });
}

#[test]
fn what_was_written_before_is_read_after() {
    in_guest(|| {
        let _disk = DiskFile::new();
        let daemon = serve("event_idx");
        let node = daemon.disk().node().to_owned();
        let write = Fio::new(&node, "write", "64k", 4)
            .with("size", SIZE)
            .with("verify", "crc32c")
            .with("do_verify", "0");
        write.run();
        daemon.kill();
        let daemon = serve("event_idx");
        assert_eq!(daemon.disk().node(), node);
        let read = Fio::new(&node, "read", "64k", 4)
            .with("size", SIZE)
            .with("verify", "crc32c")
            .with("verify_fatal", "1");
        read.run();
        daemon.stop();
    });
}

#[test]
fn another_disk_is_not_taken_for_it() {
    in_guest(|| {
        let _disk = DiskFile::new();
        serve("event_idx").kill();
        let other = |backend: &str, options: &[&str], expected: &str| {
            let serve = ["serve", "--name", "d0", "--backend", backend];
            let refused = pollux(&[&serve, options].concat());
            assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
            assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        };
        let size = "its size is 67108864, not 33554432";
        other("null,size=32M", &["--queues", "2"], size);
        let queues = "the number of its queues is 2, not 1";
        other(&backend(), &["--queues", "1"], queues);
        let features = ["--queues", "2", "--features", "none"];
        other(&backend(), &features, "what it offered is");
        let daemon = serve("event_idx");
        Fio::verify(daemon.disk().node(), "4k", 16, "1M").run();
        daemon.stop();
    });
}

#[test]
fn an_unbind_that_nobody_answered_ends_with_the_next_daemon() {
    in_guest(|| {
        let _disk = DiskFile::new();
        let daemon = serve("event_idx");
        daemon.kill();
        let driver = "/sys/bus/vdpa/drivers/virtio_vdpa";
        let unbind = std::thread::spawn(move || write(format!("{driver}/unbind"), "d0"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!unbind.is_finished(), "it did not wait");
        let mut daemon = Daemon::start("d0", &backend(), &["--queues", "2"]);
        daemon.event("taken_over");
        unbind.join().unwrap();
        write(format!("{driver}/bind"), "d0");
        assert_eq!(read("/sys/bus/vdpa/drivers_autoprobe"), "1");
        Fio::verify(daemon.disk().node(), "4k", 16, "1M").run();
        daemon.stop();
    });
}

#[test]
fn a_guests_driver_goes_on_with_the_next_daemon() {
    in_guest(|| {
        let _disk = DiskFile::new();
        let options = ["--queues", "2", "--attach", "vhost"];
        let daemon = Daemon::serve("d0", &backend(), &options);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        device.prove(1);
        daemon.kill();
        // The kick goes to the dead daemon.
        device.queues[0].prepare(&device.memory, IN, 0, &[0; 4096]);
        device.publish(0);
        let daemon = Daemon::serve("d0", &backend(), &options);
        assert_eq!(device.status_of_one(0), 0);
        // Written through the daemon before.
        let mut data = [0; 4096];
        assert_eq!(device.request(1, IN, 0, &mut data), 0);
        assert!(data == [0x5a; 4096], "other data came back");
        device.prove(0);
        device.prove(1);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_device_without_a_driver_gets_one() {
    in_guest(|| {
        let _disk = DiskFile::new();
        let daemon = serve("event_idx");
        write("/sys/bus/vdpa/drivers/virtio_vdpa/unbind", "d0");
        daemon.kill();
        let daemon = serve("event_idx");
        Fio::verify(daemon.disk().node(), "4k", 16, "1M").run();
        daemon.stop();
    });
}
