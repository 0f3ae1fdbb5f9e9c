//! Sizes that a disk cannot have, and disks that are not there.

use crate::guest::{Daemon, in_guest, pollux};

/// Asks for `size`, which is refused with exit code `code` and all of `words`.
fn refused(name: &str, size: &str, code: i32, words: &[&str]) {
    let output = pollux(&["resize", name, size]);
    assert_eq!(output.status.code(), Some(code), "{}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "{word}: {}", output.stderr);
    }
}

#[test]
fn sizes_that_cannot_be_leave_the_disk_as_it_is() {
    in_guest(|| {
        let options = ["--attach", "virtio"];
        let daemon = Daemon::serve("d0", "ram,size=64M,block_size=4096", &options);
        refused("d0", "0", 1, &["d0", "size is 0"]);
        refused("d0", "67112960000000", 1, &["d0", "memory", "use less"]);
        refused("d0", "67109376", 1, &["d0", "multiple", "4096"]);
        refused("d0", "32M", 1, &["d0", "--force"]);
        for size in ["64X", "", "+1G", "1e9"] {
            refused("d0", size, 2, &["number of bytes", "64M"]);
        }
        let seen = daemon.snapshot();
        assert_eq!((seen.capacity_bytes, seen.problem), (64 << 20, None));
        assert_eq!(daemon.disk().size_bytes(), 64 << 20);
        daemon.stop();
        let daemon = Daemon::serve("d0", "null,size=64M", &options);
        refused("d0", "16777215T", 1, &["d0", "8 EiB"]);
        refused("d9", "1G", 1, &["d9", "not served", "pollux list"]);
        daemon.stop();
        refused("d0", "1G", 1, &["d0", "not served", "pollux serve"]);
    });
}
