//! Devices that are not there, or not free.

use crate::guest::{Daemon, in_guest, pollux};

use super::{assert_refused, refused};

#[test]
fn devices_that_nobody_serves() {
    in_guest(|| {
        for command in ["attach", "detach", "status", "stats"] {
            let words = ["device d9", "not served", "pollux serve --name d9"];
            refused(&[command, "d9"], 1, &words);
        }
        // Beside a daemon that serves another one, too.
        let daemon = Daemon::serve("d0", "null,size=1G", &[]);
        for command in ["attach", "detach", "status", "stats"] {
            let output = pollux(&[command, "d9"]);
            assert_refused(&output, 1, &["device d9", "not served", "pollux list"]);
        }
        daemon.stop();
    });
}

#[test]
fn a_name_is_served_once() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "null,size=1G", &["--attach", "virtio"]);
        let owner = format!("process {}", daemon.pid());
        let again = ["serve", "--name", "d0", "--backend", "null,size=1G"];
        let words = ["device d0", "already served", &owner, "another name"];
        assert_refused(&pollux(&again), 1, &words);
        assert_eq!(daemon.snapshot().state, "running");
        // Elsewhere nobody knows of the daemon, but the kernel has the device.
        let elsewhere = [&again[..], &["--runtime-dir", "/run/elsewhere"]].concat();
        let words = ["device d0", "exists already", "another name"];
        assert_refused(&pollux(&elsewhere), 1, &words);
        let detach = ["detach", "d0", "--runtime-dir", "/run/elsewhere"];
        assert_refused(
            &pollux(&detach),
            1,
            &["d0", "open in another process", "end"],
        );
        assert_eq!(daemon.snapshot().state, "running");
        let left = std::fs::read_dir("/run/elsewhere").unwrap().count();
        assert_eq!(left, 0);
        daemon.stop();
    });
}

#[test]
fn a_device_is_attached_once() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "null,size=1G", &["--attach", "virtio"]);
        for driver in ["virtio", "vhost"] {
            let output = pollux(&["attach", "d0", "--driver", driver]);
            let words = ["attach d0", "attached already", "virtio_vdpa", "detach it"];
            assert_refused(&output, 1, &words);
        }
        daemon.detach();
        let output = pollux(&["detach", "d0"]);
        assert_refused(&output, 1, &["d0", "not attached"]);
        daemon.stop();
    });
}

#[test]
fn a_left_over_device_is_named_with_what_removes_it() {
    in_guest(|| {
        Daemon::serve("d0", "null,size=1G", &["--attach", "virtio"]).kill();
        let words = ["device d0", "exists already", "pollux detach d0"];
        let serve = |size| pollux(&["serve", "--name", "d0", "--backend", size]);
        assert_refused(&serve("null,size=2G"), 1, &words);
        // Nothing tells what it was.
        std::fs::remove_file("/run/pollux/d0.state").unwrap();
        assert_refused(&serve("null,size=1G"), 1, &words);
        for command in ["attach", "status", "stats"] {
            assert_refused(&pollux(&[command, "d0"]), 1, &["device d0", "not served"]);
        }
        pollux(&["detach", "d0"]).succeeded();
        Daemon::serve("d0", "null,size=1G", &["--attach", "virtio"]).stop();
    });
}
