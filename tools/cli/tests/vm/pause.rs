//! A device that a person pauses.

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, leftovers, pollux};

const OPTIONS: &[&str] = &["--queues", "2", "--attach", "virtio"];

/// Returns how many requests the device has completed.
fn requests(daemon: &Daemon) -> u64 {
    let queues = daemon.snapshot().queues;
    queues.iter().map(|queue| queue.requests).sum()
}

#[test]
fn a_disk_stands_still_under_load_and_goes_on() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", OPTIONS);
        let load = Fio::verify(daemon.disk().node(), "4k", 32, "16M").start();
        for _ in 0..3 {
            pollux(&["pause", "d0"]).succeeded();
            let before = requests(&daemon);
            assert_eq!(daemon.snapshot().state, "paused");
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert_eq!(requests(&daemon), before);
            // The disk may be made larger meanwhile.
            pollux(&["resize", "d0", "96M"]).succeeded();
            pollux(&["resume", "d0"]).succeeded();
            assert_eq!(daemon.snapshot().state, "running");
        }
        load.wait(3 * PATIENCE).succeeded();
        // Its driver lets go, though a person did not.
        pollux(&["pause", "d0"]).succeeded();
        daemon.detach();
        let refused = pollux(&["pause", "d0"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            refused.stderr.contains("nothing to pause"),
            "{}",
            refused.stderr
        );
        daemon.attach("virtio");
        Fio::verify(daemon.disk().node(), "4k", 4, "1M").run();
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn storage_that_does_not_finish_keeps_a_disk_from_standing_still() {
    in_guest(|| {
        let backend = "delay,write_latency=4s:ram,size=64M";
        let daemon = Daemon::serve("d0", backend, OPTIONS);
        let disk = daemon.disk();
        let load = Fio::new(disk.node(), "write", "4k", 2)
            .with("number_ios", "2")
            .start();
        disk.until_busy();
        let refused = pollux(&["pause", "d0"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stderr.contains("served on"), "{}", refused.stderr);
        load.wait(PATIENCE).succeeded();
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}
