//! A device that goes from one running daemon to the next, under load.

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, leftovers, pollux};

/// Where the disk's bytes are; outside of what is looked through for left-overs.
const DISK: &str = "/tmp/upgrade-disk";

fn backend() -> String {
    format!("ram,size=64M,path={DISK}")
}

fn options(features: &str) -> Vec<&str> {
    let fixed = ["--queues", "2", "--attach", "virtio", "--features"];
    [&fixed, &[features][..]].concat()
}

/// A daemon that serves the disk, made anew, as `d0`.
fn serve(features: &str) -> Daemon {
    let _ = std::fs::remove_file(DISK);
    Daemon::serve("d0", &backend(), &options(features))
}

/// Hands the disk on many times while a load verifies what it reads.
fn hand_on(features: &str) {
    const TIMES: usize = 12;
    let mut daemon = serve(features);
    let node = daemon.disk().node().to_owned();
    let verify = || {
        Fio::verify(&node, "4k", 32, "16M")
            .with("bssplit", "4k/60:8k/20:64k/20")
            .start()
    };
    let mut load = verify();
    let mut pauses_us = Vec::new();
    for _ in 0..TIMES {
        if load.has_ended() {
            load.wait(PATIENCE).succeeded();
            load = verify();
        }
        let takeover = [&options(features)[..], &["--takeover"]].concat();
        let mut next = Daemon::start("d0", &backend(), &takeover);
        let taken_over = next.event("taken_over");
        assert_eq!(taken_over["from"], daemon.pid(), "{taken_over}");
        pauses_us.push(taken_over["pause_us"].as_u64().expect("a pause"));
        assert_eq!(next.event("attached")["node"], node.as_str());
        // The one before has nothing left to do.
        daemon.event("handed_over");
        daemon.ended();
        daemon = next;
    }
    load.wait(3 * PATIENCE).succeeded();
    verify().wait(3 * PATIENCE).succeeded();
    for queue in daemon.snapshot().queues {
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
    }
    daemon.stop();
    assert_eq!(leftovers(), [""; 0]);
    pauses_us.sort_unstable();
    eprintln!(
        "{TIMES} hand-overs of {features}: paused for {} us in the median, {} us at most",
        pauses_us[TIMES / 2],
        pauses_us[TIMES - 1]
    );
}

#[test]
fn a_split_ring_is_handed_on_under_a_load_that_verifies() {
    in_guest(|| hand_on("event_idx"));
}

#[test]
fn a_packed_ring_is_handed_on_under_a_load_that_verifies() {
    in_guest(|| hand_on("event_idx,ring_packed"));
}

#[test]
fn what_cannot_be_taken_over_is_served_on() {
    in_guest(|| {
        let daemon = serve("event_idx");
        let refused = |backend: &str, features: &str, more: &[&str], expected: &str| {
            let serve = ["serve", "--name", "d0", "--backend", backend];
            let output = pollux(&[&serve, &options(features)[..], more].concat());
            assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
            assert!(output.stderr.contains(expected), "{}", output.stderr);
        };
        let (same, takeover) = ("event_idx", &["--takeover"]);
        refused(
            &backend(),
            same,
            &[],
            "take the device over with --takeover",
        );
        refused(&backend(), "none", takeover, "what it offered is");
        refused("ram,size=64M", same, takeover, "in its daemon's memory");
        Fio::verify(daemon.disk().node(), "4k", 16, "1M").run();
        daemon.stop();
        assert_eq!(leftovers(), [""; 0]);
    });
}

#[test]
fn a_device_that_nobody_serves_is_served() {
    in_guest(|| {
        let options = ["--takeover", "--attach", "virtio"];
        let daemon = Daemon::serve("d0", "null,size=64M", &options);
        assert!(daemon.events("taken_over").is_empty());
        daemon.stop();
    });
}
