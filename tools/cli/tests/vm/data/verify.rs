//! Checksums over random writes, in every block size and depth.

use pollux_control::device::parse_ring_features;
use pollux_dataplane::ring::RingFeatures;

use crate::guest::{Daemon, Fio, in_guest, write};

/// Bytes of each of the two jobs: enough requests for the depth, few enough for an emulated CPU.
fn size(block: &str) -> &'static str {
    match block {
        "512" => "512k",
        "4k" => "4M",
        "64k" => "16M",
        _ => "64M",
    }
}

/// Verifies `blocks` at every depth, and sees that all queues of two took part.
fn verify_at_all_depths(daemon: &Daemon, blocks: &[&str]) {
    let disk = daemon.disk();
    for block in blocks {
        for depth in [1, 16, 128] {
            let report = Fio::verify(disk.node(), block, depth, size(block)).run();
            assert_eq!(report.bytes_read, report.bytes_written, "{block} {depth}");
        }
    }
    for queue in daemon.snapshot().queues {
        assert!(queue.requests > 1000, "{queue:?}");
        assert_eq!((queue.errors, queue.driver_faults), (0, 0), "{queue:?}");
    }
}

const TWO_QUEUES: &[&str] = &["--queues", "2", "--attach", "virtio"];

fn serve(backend: &str, poll: &str) -> Daemon {
    Daemon::serve("d0", backend, &[TWO_QUEUES, &["--poll", poll]].concat())
}

#[test]
fn small_blocks_verify_while_polling_adaptively() {
    in_guest(|| {
        let daemon = serve("ram,size=256M", "adaptive");
        verify_at_all_depths(&daemon, &["512", "4k"]);
        daemon.stop();
    });
}

#[test]
fn large_blocks_verify_while_polling_adaptively() {
    in_guest(|| {
        let daemon = serve("ram,size=256M", "adaptive");
        verify_at_all_depths(&daemon, &["64k", "1M"]);
        daemon.stop();
    });
}

#[test]
fn every_poll_mode_verifies() {
    in_guest(|| {
        for poll in ["busy", "event"] {
            let daemon = serve("ram,size=64M", poll);
            assert_eq!(daemon.snapshot().mode, poll);
            verify_at_all_depths(&daemon, &["4k"]);
            daemon.stop();
        }
    });
}

#[test]
fn blocks_of_4096_bytes_verify() {
    in_guest(|| {
        let daemon = serve("ram,size=64M,block_size=4096", "adaptive");
        let disk = daemon.disk();
        for block in ["4k", "64k"] {
            Fio::verify(disk.node(), block, 16, "8M").run();
        }
        daemon.stop();
    });
}

#[test]
fn the_smallest_and_the_largest_queue_verify() {
    in_guest(|| {
        // Without indirect tables Linux keeps two descriptors a request.
        for (size, requests) in [("4", "2"), ("1024", "512")] {
            let options = [TWO_QUEUES, &["--queue-size", size]].concat();
            let daemon = Daemon::serve("d0", "ram,size=64M", &options);
            assert_eq!(daemon.disk().attribute("queue/nr_requests"), requests);
            Fio::verify(daemon.disk().node(), "64k", 128, "16M").run();
            daemon.stop();
        }
    });
}

#[test]
fn every_kind_of_ring_verifies() {
    in_guest(|| {
        for features in [
            "none",
            "indirect_desc,event_idx",
            "in_order,event_idx",
            "ring_packed",
            "ring_packed,event_idx",
            "ring_packed,indirect_desc,event_idx",
            "ring_packed,in_order,indirect_desc,event_idx",
        ] {
            let options = [TWO_QUEUES, &["--features", features]].concat();
            let daemon = Daemon::serve("d0", "ram,size=64M", &options);
            for (block, depth) in [("4k", 1), ("4k", 64), ("128k", 16)] {
                Fio::verify(daemon.disk().node(), block, depth, "8M").run();
            }
            let offered = parse_ring_features(features).expect(features);
            let mut expected = offered;
            if !knows_in_order() {
                expected.remove(RingFeatures::IN_ORDER);
            }
            let device = daemon.snapshot();
            let accepted = RingFeatures::from_bits_truncate(device.features);
            assert_eq!(accepted, expected, "{features}");
            assert_eq!(device.queues[0].fault, None, "{features}");
            daemon.stop();
        }
    });
}

/// Linux's virtio drivers do since 7.0.
fn knows_in_order() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let major = release
        .split('.')
        .next()
        .and_then(|it| it.parse::<u32>().ok());
    major.expect("a number") >= 7
}

#[test]
fn memory_of_huge_pages_verifies() {
    in_guest(|| {
        write("/proc/sys/vm/nr_hugepages", "40");
        let daemon = serve("ram,size=64M,hugepages=on", "adaptive");
        Fio::verify(daemon.disk().node(), "64k", 16, "16M").run();
        daemon.stop();
        write("/proc/sys/vm/nr_hugepages", "0");
    });
}
