//! What Linux makes of the configuration space.

use crate::guest::{Daemon, in_guest};

/// Serves `backend` with `options` and compares attributes of its disk.
fn compare(backend: &str, options: &[&str], expected: &[(&str, &str)]) {
    let options = [options, &["--attach", "virtio"]].concat();
    let daemon = Daemon::serve("d0", backend, &options);
    let disk = daemon.disk();
    for (path, value) in expected {
        assert_eq!(&disk.attribute(path), value, "{backend} {path}");
    }
    let queues = daemon.snapshot().queues.len();
    assert_eq!(disk.hardware_queues(), queues, "{backend}");
    daemon.stop();
}

#[test]
fn a_disk_of_512_byte_blocks_and_one_queue() {
    in_guest(|| {
        compare(
            "ram,size=100M",
            &[],
            &[
                ("size", "204800"),
                ("ro", "0"),
                ("queue/logical_block_size", "512"),
                ("queue/physical_block_size", "4096"),
                ("queue/minimum_io_size", "4096"),
                ("queue/optimal_io_size", "0"),
                ("queue/nr_requests", "512"),
                ("queue/max_segments", "126"),
                ("queue/max_segment_size", "1048576"),
                ("queue/write_cache", "write back"),
                // Linux raises it to the physical block.
                ("queue/discard_granularity", "4096"),
                ("queue/discard_max_hw_bytes", "2147483648"),
                ("queue/max_discard_segments", "256"),
                ("queue/write_zeroes_max_bytes", "2147483648"),
            ],
        );
    });
}

#[test]
fn a_disk_of_4096_byte_blocks_and_two_queues() {
    in_guest(|| {
        compare(
            "null,size=1T,block_size=4096",
            &[
                &["--queues", "2", "--queue-size", "64"],
                &["--features", "indirect_desc,event_idx"][..],
            ]
            .concat(),
            &[
                ("size", "2147483648"),
                ("queue/logical_block_size", "4096"),
                ("queue/physical_block_size", "4096"),
                ("queue/nr_requests", "64"),
                ("queue/max_segments", "62"),
                ("queue/discard_granularity", "4096"),
            ],
        );
    });
}

#[test]
fn a_read_only_disk_has_nothing_to_discard() {
    in_guest(|| {
        compare(
            "ram,size=64M,ro=on",
            &[],
            &[
                ("ro", "1"),
                ("queue/discard_max_hw_bytes", "0"),
                ("queue/write_zeroes_max_bytes", "0"),
            ],
        );
    });
}
