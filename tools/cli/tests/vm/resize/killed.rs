//! A daemon that is killed after a resize, or in the middle of one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{MIB, fio, no_errors, resize, shows};
use crate::guest::{Daemon, Fio, PATIENCE, Running, in_guest, pollux, read};
use crate::recovery::{DISK, DiskFile, Random};

/// Times that a daemon is killed in the middle of a resize.
const ROUNDS: u32 = 16;

/// Serves `backend` to no avail. Returns why.
fn refused(backend: &str, queues: &str, code: i32) -> String {
    let serve = ["serve", "--name", "d0", "--backend", backend];
    let output = pollux(&[&serve[..], &["--queues", queues]].concat());
    assert_eq!(output.status.code(), Some(code), "{}", output.stderr);
    output.stderr
}

#[test]
fn the_next_daemon_serves_the_new_size_and_no_other() {
    in_guest(|| {
        for queues in ["1", "2"] {
            let _disk = DiskFile::new();
            let of = |size: &str| format!("ram,size={size},path={DISK}");
            let options = ["--queues", queues, "--attach", "virtio"];
            let daemon = Daemon::serve("d0", &of("64M"), &options);
            let disk = daemon.disk();
            fio(&disk, "write", "0", "64M").run();
            resize(&["128M"]);
            shows(&disk, 128 * MIB);
            let load = Fio::verify(disk.node(), "4k", 32, "16M").with("offset", "64M");
            let load = load.start();
            std::thread::sleep(Duration::from_millis(100));
            daemon.kill();
            let reason = refused(&of("64M"), queues, 2);
            assert!(reason.contains("134217728"), "{reason}");
            let mut daemon = Daemon::serve("d0", &of("128M"), &options);
            daemon.event("taken_over");
            load.wait(3 * PATIENCE).succeeded();
            assert_eq!(disk.size_bytes(), 128 * MIB);
            fio(&disk, "read", "0", "64M").run();
            no_errors(&daemon);
            daemon.stop();
        }
    });
}

#[test]
fn what_has_no_file_is_refused_with_the_size_to_give() {
    in_guest(|| {
        let options = ["--attach", "virtio"];
        let daemon = Daemon::serve("d0", "null,size=64M", &options);
        resize(&["128M"]);
        resize(&["96M", "--force"]);
        daemon.kill();
        for other in ["null,size=64M", "null,size=128M"] {
            let reason = refused(other, "1", 1);
            assert!(reason.contains("since a resize"), "{reason}");
            assert!(reason.contains("give size=100663296"), "{reason}");
        }
        let mut daemon = Daemon::serve("d0", "null,size=96M", &options);
        daemon.event("taken_over");
        assert_eq!(daemon.disk().size_bytes(), 96 * MIB);
        // Served with that size, so it is no other any more.
        daemon.kill();
        let reason = refused("null,size=64M", "1", 1);
        assert!(!reason.contains("resize"), "{reason}");
        Daemon::serve("d0", "null,size=96M", &options).stop();
    });
}

/// Returns whether the state for the next daemon names two sizes.
fn on_the_way() -> bool {
    read("/run/pollux/d0.state").contains("resizing_to_bytes")
}

#[test]
fn killed_at_any_moment_of_a_resize_one_of_the_sizes_is_served() {
    in_guest(|| {
        let _disk = DiskFile::new();
        let mut random = Random::new();
        let options = ["--queues", "2", "--attach", "virtio"];
        let of = |bytes: u64| format!("ram,size={bytes},path={DISK}");
        let mut size = 64 * MIB;
        let mut daemon = Daemon::serve("d0", &of(size), &options);
        let disk = daemon.disk();
        fio(&disk, "write", "0", "32M").run();
        let mut killed = BTreeMap::new();
        for _ in 0..ROUNDS {
            let other = 192 * MIB - size;
            let wanted = other.to_string();
            let mut asking = Running::program("pollux", &["resize", "d0", &wanted, "--force"]);
            while !on_the_way() && !asking.has_ended() {}
            // Nothing to a few milliseconds.
            let pause = Duration::from_micros(random.below(3_000));
            let begun = Instant::now();
            while begun.elapsed() < pause {}
            daemon.kill();
            asking.wait(PATIENCE);
            let length = std::fs::metadata(DISK).expect("a file").len();
            assert!(length == size || length == other, "{length} bytes");
            let end = match (on_the_way(), length == size) {
                (true, true) => "before the file changed",
                (true, false) => "after the file changed",
                (false, _) => "with the state written",
            };
            *killed.entry(end).or_insert(0) += 1;
            size = length;
            daemon = Daemon::serve("d0", &of(size), &options);
            daemon.event("taken_over");
            shows(&disk, size);
            assert_eq!(daemon.snapshot().capacity_bytes, size);
        }
        eprintln!("killed {killed:?}");
        assert!(killed.len() > 1, "always at the same place");
        fio(&disk, "read", "0", "32M").run();
        fio(&disk, "randwrite", "32M", "32M").run();
        no_errors(&daemon);
        daemon.stop();
    });
}
