//! What a disk does beside reads and writes: flush, discard, write zeroes, its serial, write protection.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::guest::{Daemon, Disk, Fio, in_guest, run};

const MIB: u64 = 1 << 20;

fn serve(backend: &str) -> (Daemon, Disk) {
    let daemon = Daemon::serve("d0", backend, &["--attach", "virtio"]);
    let disk = daemon.disk();
    (daemon, disk)
}

/// Writes `mebibytes` of ones to the start of the disk.
fn fill(disk: &Disk, mebibytes: u64) -> File {
    let file = disk.open(true).unwrap();
    let ones = vec![0xff; MIB as usize];
    for index in 0..mebibytes {
        file.write_all_at(&ones, index * MIB).unwrap();
    }
    file.sync_all().unwrap();
    file
}

/// Returns the first byte of each mebibyte, read from the device and not from a cache.
fn first_bytes(disk: &Disk, mebibytes: u64) -> Vec<u8> {
    run("blockdev", &["--flushbufs", disk.node()]).succeeded();
    let file = disk.open(false).unwrap();
    let first_of = |index| {
        let mut byte = [7];
        file.read_exact_at(&mut byte, index * MIB).unwrap();
        byte[0]
    };
    (0..mebibytes).map(first_of).collect()
}

/// Returns the shared memory of the daemon in KiB: the pages of its ram disk that it has touched.
fn shared_kib(daemon: &Daemon) -> u64 {
    let status = crate::guest::read(format!("/proc/{}/status", daemon.pid()));
    let line = status.lines().find(|line| line.starts_with("RssShmem:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|n| n.parse().ok()).expect("RssShmem in kB")
}

#[test]
fn discard_gives_memory_back_and_reads_zeros() {
    in_guest(|| {
        let (daemon, disk) = serve("ram,size=64M");
        drop(fill(&disk, 32));
        let (before, written) = (shared_kib(&daemon), bytes_written(&daemon));
        assert!(before >= 32 << 10, "{before}");
        let range = ["-o", "4194304", "-l", "16777216"];
        run("blkdiscard", &[&range[..], &[disk.node()]].concat()).succeeded();
        let after = shared_kib(&daemon);
        assert!(after + (15 << 10) <= before, "{before} KiB, then {after}");
        assert_eq!(bytes_written(&daemon), written);
        let kept = |index| if (4..20).contains(&index) { 0 } else { 0xff };
        assert_eq!(
            first_bytes(&disk, 32),
            (0..32).map(kept).collect::<Vec<u8>>()
        );
        daemon.stop();
    });
}

#[test]
fn write_zeroes_reaches_the_device_as_one_command() {
    in_guest(|| {
        let (daemon, disk) = serve("ram,size=64M");
        let file = fill(&disk, 8);
        let written = bytes_written(&daemon);
        let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, zero, MIB as i64, 4 * MIB as i64).unwrap();
        file.sync_all().unwrap();
        assert_eq!(bytes_written(&daemon), written, "zeros came as data");
        assert_eq!(first_bytes(&disk, 8), [255, 0, 0, 0, 0, 255, 255, 255]);
        daemon.stop();
    });
}

#[test]
fn flush_is_a_request_of_its_own() {
    in_guest(|| {
        let (daemon, disk) = serve("ram,size=64M");
        assert_eq!(disk.attribute("queue/write_cache"), "write back");
        let file = fill(&disk, 1);
        let before = daemon.snapshot().queues[0].requests;
        file.sync_all().unwrap();
        let queue = &daemon.snapshot().queues[0];
        assert_eq!((queue.requests, queue.errors), (before + 1, 0));
        daemon.stop();
    });
}

#[test]
fn the_serial_is_what_was_asked_for_or_the_name() {
    in_guest(|| {
        let (daemon, disk) = serve("null,size=1G");
        assert_eq!(disk.attribute("serial"), "d0");
        daemon.stop();
        let (daemon, disk) = serve("null,size=1G,serial=twenty-bytes-exactly");
        assert_eq!(disk.attribute("serial"), "twenty-bytes-exactly");
        daemon.stop();
    });
}

#[test]
fn a_read_only_disk_refuses_writes() {
    in_guest(|| {
        let (daemon, disk) = serve("ram,size=64M,ro=on");
        assert_eq!(disk.attribute("ro"), "1");
        let write = Fio::new(disk.node(), "write", "4k", 1).with("size", "4k");
        let output = write.start().wait(crate::guest::PATIENCE);
        assert!(!output.status.success(), "{}", output.stdout);
        // Not the kernel's doing alone: made writable here, the device itself still refuses.
        run("blockdev", &["--setrw", disk.node()]);
        let written = disk.open(true).and_then(|file| {
            file.write_all_at(&[0xff; 4096], 0)?;
            file.sync_all()
        });
        written.expect_err("the disk is read-only");
        let read = Fio::new(disk.node(), "randread", "4k", 16).with("size", "1M");
        assert_eq!(read.run().bytes_read, MIB);
        assert_eq!(first_bytes(&disk, 1), [0]);
        daemon.stop();
    });
}

fn bytes_written(daemon: &Daemon) -> u64 {
    let queues = daemon.snapshot().queues;
    queues.iter().map(|queue| queue.bytes_written).sum()
}
