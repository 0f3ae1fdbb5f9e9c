//! A daemon that is killed leaves its device behind; `pollux detach` removes that.

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, leftovers, pollux};

use super::{endless_load, until_under_load};

/// Serves with `options`, kills the daemon, cleans up, and serves the same name again.
fn kill_and_clean_up(options: &[&str]) {
    Daemon::serve("d0", "ram,size=64M", options).kill();
    let left = leftovers();
    assert!(left.contains(&"/dev/vduse/d0".to_owned()), "{left:?}");
    pollux(&["detach", "d0"]).succeeded();
    assert_eq!(leftovers(), [""; 0]);
    let daemon = Daemon::serve("d0", "ram,size=64M", &["--attach", "virtio"]);
    Fio::verify(daemon.disk().node(), "4k", 16, "1M").run();
    daemon.stop();
}

#[test]
fn a_device_that_is_not_attached_is_removed() {
    in_guest(|| kill_and_clean_up(&[]));
}

#[test]
fn a_disk_is_removed() {
    in_guest(|| kill_and_clean_up(&["--attach", "virtio"]));
}

#[test]
fn a_guests_device_is_removed() {
    in_guest(|| kill_and_clean_up(&["--attach", "vhost"]));
}

/// Kills the daemon of a disk whose rings have `features`, and removes the disk, under load.
fn removed_under_load(features: &str) {
    let options = [
        "--queues",
        "2",
        "--attach",
        "virtio",
        "--features",
        features,
    ];
    let daemon = Daemon::serve("d0", "ram,size=64M", &options);
    let load = endless_load(daemon.disk().node());
    until_under_load(&daemon);
    daemon.kill();
    pollux(&["detach", "d0"]).succeeded();
    assert_eq!(leftovers(), [""; 0]);
    let load = load.wait(PATIENCE);
    assert!(!load.status.success(), "fio went on: {}", load.stdout);
}

#[test]
fn a_disk_is_removed_under_load() {
    in_guest(|| removed_under_load("event_idx"));
}

#[test]
fn a_disk_with_packed_rings_is_removed_under_load() {
    in_guest(|| removed_under_load("event_idx,ring_packed"));
}

#[test]
fn a_disk_with_packed_rings_in_order_is_removed_under_load() {
    in_guest(|| removed_under_load("event_idx,ring_packed,in_order"));
}
