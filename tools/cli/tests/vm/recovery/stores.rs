//! A daemon that kills itself before each store of the in-flight protocol in turn, in recovery and at work.

use std::process::Command;

use crate::guest::{Daemon, Fio, PATIENCE, Running, in_guest};

use super::{DiskFile, backend};

/// Built with the feature `kill-points`; `tools/test` puts it here.
const PROGRAM: &str = "/root/pollux-kill-points";

/// The last point: with [`DEPTH`] requests a pass is shorter than that.
const POINTS: u64 = 24;

/// Requests outstanding on a queue.
const DEPTH: u32 = 4;

/// A daemon that dies at the point `point`.
fn start(features: &str, point: u64) -> Daemon {
    assert!(
        std::path::Path::new(PROGRAM).exists(),
        "{PROGRAM} is missing: build pollux with --features kill-points and give it to the guest, as tools/test does"
    );
    let mut command = Command::new(PROGRAM);
    let options = [
        "--queues",
        "2",
        "--attach",
        "virtio",
        "--features",
        features,
    ];
    command
        .args(["serve", "--json", "--name", "d0", "--backend", &backend()])
        .args(options)
        .env("POLLUX_KILL_POINT", point.to_string());
    Daemon::from("d0", Running::start(command))
}

fn killed_at_each_store(features: &str) {
    let _disk = DiskFile::new();
    let daemon = super::serve(features);
    let disk = daemon.disk();
    let verify = || Fio::verify(disk.node(), "4k", DEPTH, "16M").start();
    let mut load = verify();
    daemon.kill();
    for point in 1..=POINTS {
        start(features, point).died();
        if load.has_ended() {
            load.wait(PATIENCE).succeeded();
            load = verify();
        }
    }
    let mut daemon = super::start(&backend(), features);
    daemon.event("taken_over");
    load.wait(3 * PATIENCE).succeeded();
    verify().wait(3 * PATIENCE).succeeded();
    for queue in daemon.snapshot().queues {
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
    }
    daemon.stop();
}

#[test]
fn killed_at_each_store_for_a_split_ring() {
    in_guest(|| killed_at_each_store("event_idx"));
}

#[test]
fn killed_at_each_store_for_a_packed_ring() {
    in_guest(|| killed_at_each_store("event_idx,ring_packed"));
}
