//! Drivers whose choice of features cannot be served.
//!
//! Linux's virtio_blk accepts nothing that is not offered and all that is needed, so that Pollux has no reason to
//! refuse it. A driver over `/dev/vhost-vdpa-N` may accept what it likes; and what becomes of a virtio_blk that was
//! refused is seen with a daemon of this test's own in between.

mod refuser;

use std::path::PathBuf;

use pollux_control::vdpa::{self, AttachError, Driver};

use crate::guest::{Daemon, Disk, Fio, in_guest, until, write};
use crate::recovery::{DISK, DiskFile};
use crate::vhost::{
    ACCESS_PLATFORM, BLK_SIZE, Device, EVENT_IDX, FEATURES_OK, INDIRECT_DESC, Kernel, PLAIN,
};
use refuser::Refuser;

/// VIRTIO_F_RING_PACKED.
const RING_PACKED: u64 = 1 << 34;

/// A driver that has given up, and then sets what a driver sets.
const FAILED: u8 = 0x80;

/// Accepts `refused`, which must not do and be told with all of `words`; then `served`, which must.
fn refused_then_served(options: &[&str], backend: &str, refused: u64, words: &[&str], served: u64) {
    let options = [options, &["--attach", "vhost"]].concat();
    let daemon = Daemon::serve("d0", backend, &options);
    let node = daemon.node();
    {
        let kernel = Kernel::open(&node);
        kernel.set_status(3);
        kernel.set_features(refused);
        kernel.set_status(3 | FEATURES_OK);
        assert_eq!(kernel.status(), 3, "FEATURES_OK was accepted");
        let seen = daemon.snapshot();
        assert_eq!(seen.state, "refused");
        let problem = seen.problem.expect("a reason");
        for word in words {
            assert!(problem.contains(word), "{word}: {problem}");
        }
        assert!(daemon.log().contains(&problem), "{}", daemon.log());
        // The driver gives up, and another tries without a reset.
        kernel.set_status(3 | FAILED);
        kernel.set_features(served);
        kernel.set_status(3 | FAILED | FEATURES_OK);
        assert_eq!(kernel.status(), 3 | FAILED | FEATURES_OK);
        assert_eq!(daemon.snapshot().problem, None);
    }
    let mut device = Device::start(&node, 1, served);
    device.prove(0);
    assert_eq!(daemon.snapshot().features, served);
    drop(device);
    daemon.stop();
}

#[test]
fn what_every_driver_must_accept() {
    in_guest(|| {
        // Without VIRTIO_F_VERSION_1 rings have the byte order of the guest.
        let words = ["did not accept VERSION_1 (bit 32), which"];
        refused_then_served(&[], "ram,size=64M", ACCESS_PLATFORM, &words, PLAIN);
    });
}

#[test]
fn what_the_options_do_not_offer() {
    in_guest(|| {
        let words = ["accepted RING_PACKED (bit 34), bit 40, which"];
        let more = PLAIN | RING_PACKED | 1 << 40;
        refused_then_served(&[], "ram,size=64M", more, &words, PLAIN | EVENT_IDX);
        let options = ["--features", "event_idx"];
        let words = ["accepted INDIRECT_DESC (bit 28), which"];
        let more = PLAIN | INDIRECT_DESC;
        refused_then_served(&options, "ram,size=64M", more, &words, PLAIN);
    });
}

#[test]
fn what_the_backend_needs() {
    in_guest(|| {
        let backend = "ram,size=64M,block_size=4096";
        let words = ["did not accept BLK_SIZE (bit 6), which"];
        refused_then_served(&[], backend, PLAIN, &words, PLAIN | BLK_SIZE);
    });
}

/// A disk that the next daemon can serve on.
fn backend() -> String {
    format!("ram,size=64M,path={DISK}")
}

fn verify(disk: &Disk) {
    Fio::verify(disk.node(), "4k", 16, "1M").run();
}

#[test]
fn an_attach_that_is_refused_says_that_there_is_no_disk_and_a_later_one_works() {
    in_guest(|| {
        let _disk = DiskFile::new();
        Daemon::serve("d0", &backend(), &[]).kill();
        let refuser = Refuser::start("d0");
        let name = "d0".parse().expect("a name");
        let error = vdpa::attach(&name, Driver::Virtio).expect_err("no disk");
        let status = match &error {
            AttachError::NoDisk { status, .. } => *status,
            other => panic!("{other}"),
        };
        assert_eq!(status & (FAILED | FEATURES_OK), FAILED, "{status:#x}");
        let text = error.to_string();
        for word in ["attach d0", "no disk", "refused", "dmesg"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert_eq!(vdpa::status(&name), vdpa::Status::Detached);
        let seen = refuser.end();
        // Reset, then what a probe sets; FEATURES_OK is not set again.
        assert!(seen.starts_with(&[0, 1, 3, 0x0b, 0x83]), "{seen:x?}");
        let mut daemon = Daemon::start("d0", &backend(), &["--attach", "virtio"]);
        daemon.event("taken_over");
        daemon.event("attached");
        verify(&daemon.disk());
        daemon.stop();
    });
}

/// Leaves a device that virtio_blk has given up on. Returns the folder of its virtio device.
fn given_up() -> PathBuf {
    let driver = "/sys/bus/vdpa/drivers/virtio_vdpa";
    let daemon = Daemon::serve("d0", &backend(), &["--attach", "virtio"]);
    write(format!("{driver}/unbind"), "d0");
    daemon.kill();
    let refuser = Refuser::start("d0");
    write(format!("{driver}/bind"), "d0");
    refuser.end();
    let name = "d0".parse().expect("a name");
    assert!(vdpa::has_failed(&name));
    let entries = std::fs::read_dir("/sys/bus/vdpa/devices/d0").expect("a device");
    let mut entries = entries.map(|entry| entry.expect("an entry").path());
    let is_virtio = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with("virtio")
    };
    entries.find(is_virtio).expect("a virtio device")
}

#[test]
fn a_driver_that_is_bound_again_is_served_with_a_reset_and_without() {
    in_guest(|| {
        let _disk = DiskFile::new();
        let device = given_up();
        let mut daemon = Daemon::start("d0", &backend(), &["--queues", "1"]);
        daemon.event("taken_over");
        // Nothing resets the device before this: FAILED stays set.
        let name = device.file_name().expect("a name").to_string_lossy();
        write("/sys/bus/virtio/drivers/virtio_blk/bind", &name);
        let disk = Disk::new(until("the disk", || daemon.snapshot().node).into());
        let status = daemon.snapshot().status;
        assert_eq!(status & FAILED, FAILED, "{status:#x}");
        assert_eq!(daemon.snapshot().state, "running");
        verify(&disk);
        let driver = "/sys/bus/vdpa/drivers/virtio_vdpa";
        write(format!("{driver}/unbind"), "d0");
        write(format!("{driver}/bind"), "d0");
        let disk = Disk::new(until("the disk", || daemon.snapshot().node).into());
        assert_eq!(daemon.snapshot().status & FAILED, 0);
        verify(&disk);
        daemon.stop();
    });
}

#[test]
fn a_device_that_its_driver_gave_up_on_is_attached_anew() {
    in_guest(|| {
        let _disk = DiskFile::new();
        given_up();
        let mut daemon = Daemon::start("d0", &backend(), &["--attach", "virtio"]);
        daemon.event("attached");
        assert_eq!(daemon.events("detached").len(), 1);
        verify(&daemon.disk());
        daemon.stop();
    });
}
