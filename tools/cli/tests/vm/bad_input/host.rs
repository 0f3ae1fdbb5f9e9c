//! Hosts and users that cannot serve.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::guest::{Daemon, Output, PATIENCE, Running, in_guest, leftovers, pollux, run};

use super::{assert_refused, refused};

const SERVE: &[&str] = &["serve", "--name", "d0", "--backend", "null,size=1G"];
const NOBODY: u32 = 65534;

/// Runs `pollux` as somebody who may do nothing.
fn as_nobody(args: &[&str]) -> Output {
    let mut command = Command::new("pollux");
    command.args(args).uid(NOBODY).gid(NOBODY);
    Running::start(command).wait(PATIENCE)
}

#[test]
fn without_the_module() {
    in_guest(|| {
        run("rmmod", &["vduse"]).succeeded();
        let serve = pollux(SERVE);
        let attach = pollux(&[SERVE, &["--attach", "virtio"]].concat());
        run("modprobe", &["vduse"]).succeeded();
        for output in [serve, attach] {
            let words = ["/dev/vduse/control", "not loaded", "modprobe vduse"];
            assert_refused(&output, 1, &words);
        }
        assert_eq!(leftovers(), [""; 0]);
        Daemon::serve("d0", "null,size=1G", &["--attach", "virtio"]).stop();
    });
}

#[test]
fn without_the_control_node() {
    in_guest(|| {
        let (node, away) = ("/dev/vduse/control", "/dev/control-away");
        fs::rename(node, away).unwrap();
        let output = pollux(SERVE);
        fs::rename(away, node).unwrap();
        let words = ["/dev/vduse/control", "does not exist", "modprobe vduse"];
        assert_refused(&output, 1, &words);
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn without_the_driver_to_attach_to() {
    in_guest(|| {
        for (driver, module) in [("virtio", "virtio_vdpa"), ("vhost", "vhost_vdpa")] {
            run("rmmod", &[module]).succeeded();
            let mut output = pollux(&[SERVE, &["--attach", driver]].concat());
            run("modprobe", &[module]).succeeded();
            assert_eq!(output.stdout, "d0: served\nd0: stopped\n");
            output.stdout.clear();
            let remedy = format!("modprobe {module}");
            assert_refused(&output, 1, &["attach d0", module, "not loaded", &remedy]);
            assert_eq!(leftovers(), [""; 0]);
        }
    });
}

#[test]
fn without_being_root() {
    in_guest(|| {
        let words = ["/run/pollux", "Permission denied", "run as root"];
        assert_refused(&as_nobody(SERVE), 1, &words);
        fs::create_dir_all("/tmp/nobody").unwrap();
        std::os::unix::fs::chown("/tmp/nobody", Some(NOBODY), Some(NOBODY)).unwrap();
        let own_folder = [SERVE, &["--runtime-dir", "/tmp/nobody"]].concat();
        let words = ["/dev/vduse/control", "may not be opened", "run as root"];
        assert_refused(&as_nobody(&own_folder), 1, &words);
        assert_eq!(fs::read_dir("/tmp/nobody").unwrap().count(), 0);
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn another_user_is_told_to_be_the_one_that_serves() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "null,size=1G", &["--attach", "virtio"]);
        for command in ["attach", "detach", "status", "stats"] {
            let output = as_nobody(&[command, "d0"]);
            let words = ["Permission denied", "as the user that serves"];
            assert_refused(&output, 1, &words);
        }
        let output = as_nobody(&["list"]);
        assert_refused(
            &output,
            1,
            &["Permission denied", "as the user that serves"],
        );
        daemon.stop();
        refused(&["status", "d0"], 1, &["device d0", "not served"]);
    });
}
