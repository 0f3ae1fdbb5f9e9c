//! The disk of this host goes away in every way that there is.

use std::path::Path;

use crate::guest::{Daemon, Fio, PATIENCE, run, until, write};
use crate::lifecycle::endless_load;

use super::{Random, storm};

const VIRTIO: &[&str] = &["--attach", "virtio"];
const DRIVER: &str = "/sys/bus/vdpa/drivers/virtio_vdpa";

/// Has `go` take the disk away at any moment of a load, and sees that the one that `come` brings back serves.
fn round(daemon: &Daemon, random: &mut Random, go: impl FnOnce(), come: impl FnOnce()) {
    let disk = daemon.disk();
    let load = endless_load(disk.node());
    disk.until_busy();
    random.pause(200);
    go();
    let load = load.wait(PATIENCE);
    assert!(!load.status.success(), "fio went on: {}", load.stdout);
    come();
    let node = until("the disk", || daemon.snapshot().node);
    Fio::verify(&node, "4k", 16, "512k").run();
}

#[test]
fn unbind_and_bind_of_virtio_vdpa() {
    storm(VIRTIO, |daemon, random| {
        let go = || write(format!("{DRIVER}/unbind"), "d0");
        round(daemon, random, go, || {
            write(format!("{DRIVER}/bind"), "d0");
        });
    });
}

#[test]
fn unbind_and_bind_of_virtio_blk() {
    storm(VIRTIO, |daemon, random| {
        let disk = daemon.disk();
        let name = disk.node().trim_start_matches("/dev/");
        let device = std::fs::canonicalize(format!("/sys/block/{name}/device")).unwrap();
        let device = device.file_name().unwrap().to_str().unwrap();
        let driver = "/sys/bus/virtio/drivers/virtio_blk";
        let go = || write(format!("{driver}/unbind"), device);
        round(daemon, random, go, || {
            write(format!("{driver}/bind"), device);
        });
    });
}

#[test]
fn detach_and_attach_of_a_disk() {
    storm(VIRTIO, |daemon, random| {
        let come = || drop(daemon.attach("virtio"));
        round(daemon, random, || daemon.detach(), come);
    });
}

#[test]
fn unload_and_load_of_virtio_vdpa() {
    storm(VIRTIO, |daemon, random| {
        let go = || drop(run("rmmod", &["virtio_vdpa"]).succeeded());
        round(daemon, random, go, || {
            run("modprobe", &["virtio_vdpa"]).succeeded();
            // The module's own probe may have found the device by itself.
            if !Path::new(DRIVER).join("d0").exists() {
                write(format!("{DRIVER}/bind"), "d0");
            }
        });
    });
}
