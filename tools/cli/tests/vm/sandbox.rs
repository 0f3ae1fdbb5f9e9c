//! What a sandboxed daemon does with VDUSE, and that it need not be root's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::guest::{Daemon, Fio, Running, in_guest, until};

/// Nobody in the list of users.
const USER: u32 = 4711;
const RUNTIME_DIR: &str = "/run/pollux";

/// CAP_DAC_OVERRIDE, CAP_NET_ADMIN and CAP_SYS_NICE.
const KEPT: &str = "0000000000801002";
const NONE: &str = "0000000000000000";

/// Returns the folder of the daemon's thread called `name`.
fn thread(daemon: &Daemon, name: &str) -> PathBuf {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let is_it = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap().trim() == name;
    tasks.find(is_it).expect(name)
}

/// Returns the field `name` of a thread's status.
fn field(thread: &Path, name: &str) -> String {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.expect(name).trim_start_matches(':').trim().to_owned()
}

fn give(path: &str, user: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
}

fn verify(daemon: &Daemon) {
    Fio::verify(daemon.disk().node(), "16k", 16, "4M").run();
}

#[test]
fn another_user_serves_attaches_and_detaches() {
    in_guest(|| {
        let disks = tempfile::tempdir().unwrap();
        let folder = disks.path().to_str().unwrap();
        fs::create_dir_all(RUNTIME_DIR).unwrap();
        give(RUNTIME_DIR, USER);
        give(folder, USER);
        let backend = format!("ram,size=64M,path={folder}/ram");
        let user = USER.to_string();
        let options = ["--queues", "2", "--attach", "virtio", "--user", &user];
        let daemon = Daemon::serve("d0", &backend, &options);
        for (name, kept) in [
            ("d0/vq0", NONE),
            ("d0/vq1", NONE),
            ("d0/control", KEPT),
            ("pollux", KEPT),
        ] {
            let thread = thread(&daemon, name);
            for (key, value) in [
                ("Uid", [user.as_str(); 4].join("\t").as_str()),
                ("CapEff", NONE),
                ("CapPrm", kept),
                ("NoNewPrivs", "1"),
                ("Seccomp", "2"),
            ] {
                assert_eq!(field(&thread, key), value, "{key} of {name}");
            }
        }
        verify(&daemon);
        daemon.detach();
        daemon.attach("vhost");
        daemon.detach();
        // The device is made anew for it, where the kernel needs that.
        daemon.attach("virtio");
        verify(&daemon);
        for trouble in ["interrupts stay where they are", "does without"] {
            assert!(!daemon.log().contains(trouble), "{}", daemon.log());
        }
        daemon.kill();
        let mut next = Daemon::start("d0", &backend, &options);
        next.event("taken_over");
        next.event("attached");
        verify(&next);
        next.stop();
        give(RUNTIME_DIR, 0);
    });
}

#[test]
fn a_worker_makes_the_expected_calls_and_no_others() {
    in_guest(|| {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("trace").display().to_string();
        let traced = [
            "-D", "-ff", "-o", &prefix, "pollux", "serve", "--json", "--name", "d0",
        ];
        let options = [
            "--backend",
            "ram,size=64M",
            "--poll",
            "event",
            "--attach",
            "virtio",
        ];
        let running = Running::program("strace", &[&traced[..], &options].concat());
        let mut daemon = Daemon::from("d0", running);
        daemon.event("attached");
        let worker = thread(&daemon, "d0/vq0");
        let id = worker.file_name().unwrap().to_str().unwrap();
        let trace = format!("{prefix}.{id}");
        let lines = || fs::read_to_string(&trace).unwrap().lines().count();
        let before = lines();
        let load = Fio::new(daemon.disk().node(), "randrw", "4k", 1).with("size", "4M");
        // strace keeps some lines back until it has more.
        until("the trace", || {
            load.run();
            (lines() > before + 100).then_some(())
        });
        let text = fs::read_to_string(&trace).unwrap();
        let under_load: Vec<&str> = text.lines().skip(before).collect();
        let named = under_load
            .iter()
            .filter_map(|line| Some(line.split_once('(')?.0));
        let seen: BTreeSet<&str> = named.filter(|name| !name.contains(' ')).collect();
        assert!(seen.contains("ioctl") && seen.contains("poll"), "{seen:?}");
        // The time is the kernel's to tell where it takes the TSC for unstable, as in an emulated machine under load.
        let may = ["ioctl", "poll", "read", "write", "clock_gettime"];
        assert!(seen.iter().all(|call| may.contains(call)), "{seen:?}");
        // VDUSE_VQ_INJECT_IRQ and VDUSE_VQ_SETUP_KICKFD; some strace has names for them.
        let ioctls = under_load.iter().filter(|line| line.starts_with("ioctl("));
        for line in ioctls {
            let known = [
                "0x81, 0x17, 0x4",
                "0x81, 0x16, 0x8",
                "VDUSE_VQ_INJECT_IRQ",
                "VDUSE_VQ_SETUP_KICKFD",
            ];
            assert!(known.iter().any(|known| line.contains(known)), "{line}");
        }
        daemon.stop();
    });
}

#[test]
fn what_holds_data_is_in_no_core_dump() {
    in_guest(|| {
        for umem in ["off", "anon"] {
            let options = ["--attach", "virtio", "--umem", umem];
            let daemon = Daemon::serve("d0", "ram,size=64M", &options);
            verify(&daemon);
            let maps = fs::read_to_string(format!("/proc/{}/smaps", daemon.pid())).unwrap();
            let mut lines = maps.lines();
            let mut shared = 0;
            while let Some(line) = lines.next() {
                if line.contains("memfd:") || line.contains("[vduse-domain]") {
                    let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
                    let flags = flags.expect("flags");
                    assert!(flags.split(' ').any(|flag| flag == "dd"), "{line}: {flags}");
                    shared += 1;
                }
            }
            assert!(shared >= if umem == "off" { 2 } else { 3 }, "{maps}");
            daemon.stop();
        }
    });
}
