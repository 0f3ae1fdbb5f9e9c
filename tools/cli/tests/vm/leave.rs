//! A daemon that leaves its device to the next one, as a service does that is restarted.

use nix::sys::signal::Signal;

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, leftovers};

/// Where the disk's bytes are; outside of what is looked through for left-overs.
const DISK: &str = "/tmp/leave-disk";
const OPTIONS: &[&str] = &["--queues", "2", "--attach", "virtio"];

fn backend() -> String {
    format!("ram,size=64M,path={DISK}")
}

/// Has `daemon` leave its device. Returns the next one, which serves it.
fn leave_to_next(mut daemon: Daemon) -> Daemon {
    daemon.signal(Signal::SIGUSR1);
    daemon.event("left");
    daemon.ended();
    let mut next = Daemon::start("d0", &backend(), OPTIONS);
    next.event("taken_over");
    next.event("attached");
    next
}

#[test]
fn a_disk_is_left_under_a_load_that_verifies() {
    in_guest(|| {
        let _ = std::fs::remove_file(DISK);
        let mut daemon = Daemon::serve("d0", &backend(), OPTIONS);
        let node = daemon.disk().node().to_owned();
        let load = Fio::verify(&node, "4k", 32, "16M").start();
        for _ in 0..4 {
            daemon = leave_to_next(daemon);
        }
        load.wait(3 * PATIENCE).succeeded();
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn what_its_storage_does_not_finish_is_left_to_the_next() {
    in_guest(|| {
        let _ = std::fs::remove_file(DISK);
        let stuck = format!("delay,write_latency=forever:{}", backend());
        let daemon = Daemon::serve("d0", &stuck, OPTIONS);
        let disk = daemon.disk();
        let load = Fio::verify(disk.node(), "4k", 4, "64k").start();
        disk.until_busy();
        let daemon = leave_to_next(daemon);
        load.wait(PATIENCE).succeeded();
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn a_disk_in_the_daemons_memory_goes_with_it() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", OPTIONS);
        daemon.stop_with(Signal::SIGUSR1);
        assert_eq!(leftovers(), [""; 0]);
    });
}
