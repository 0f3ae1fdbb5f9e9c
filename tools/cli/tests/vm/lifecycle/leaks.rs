//! A daemon that runs for long.

use crate::guest::{Daemon, Fio, in_guest};
use crate::vhost::{Device, PLAIN};

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    files: usize,
    mappings: usize,
    threads: usize,
}

impl Held {
    fn by(daemon: &Daemon) -> Self {
        let count = |name| {
            let folder = format!("/proc/{}/{name}", daemon.pid());
            std::fs::read_dir(folder).expect("a process").count()
        };
        let maps = crate::guest::read(format!("/proc/{}/maps", daemon.pid()));
        // The allocator's own come and go.
        let shared = maps.lines().filter(|line| is_shared(line));
        Self {
            files: count("fd"),
            mappings: shared.count(),
            threads: count("task"),
        }
    }
}

/// Returns whether this line of `/proc/PID/maps` is a shared mapping, as those of drivers' memory are.
fn is_shared(line: &str) -> bool {
    let access = line.split_whitespace().nth(1);
    access.is_some_and(|access| access.ends_with('s'))
}

#[test]
fn ten_attaches_leave_no_file_no_mapping_and_no_thread_behind() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", &["--queues", "2"]);
        let turn = || {
            daemon.attach("virtio");
            Fio::verify(daemon.disk().node(), "64k", 16, "2M").run();
            daemon.detach();
            let node = daemon.attach("vhost");
            Device::start(&node, 2, PLAIN).prove(1);
            daemon.detach();
        };
        turn();
        let before = Held::by(&daemon);
        for _ in 0..9 {
            turn();
        }
        assert_eq!(Held::by(&daemon), before);
        daemon.stop();
    });
}
