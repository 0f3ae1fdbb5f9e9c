//! The file backend on a file of this machine, held to what every backend promises.

mod storage;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use pollux_dataplane::backend::{
    Backend, BackendQueue, Delay, DiskError, DiskOptions, Failing, FailureRule, FileDisk,
    FileError, FileOptions, Latencies, Latency, OperationKinds, Outcome, Ram, RamMemory, Rate,
    RateLimits, RingOptions, Submission, Throttle,
};
use pollux_dataplane::blk::Operation;
use pollux_dataplane::mem::{Access, Iova, Mapping, Region, RegionTable};
use storage::{Rig, keeps_its_promises, pattern, segment};
use tempfile::TempDir;

/// A folder on a disk, not in memory: that goes without its page cache.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn options(path: PathBuf) -> FileOptions {
    FileOptions {
        path,
        is_block: false,
        size_bytes: Some(8 << 20),
        block_bytes: None,
        read_only: false,
        direct: true,
        serial: String::new(),
        fallback_serial: "fallback".into(),
        ring: RingOptions::default(),
    }
}

fn error(options: &FileOptions) -> String {
    FileDisk::new(options).expect_err("refused").to_string()
}

#[test]
fn a_file_keeps_what_a_backend_promises() {
    let folder = folder();
    keeps_its_promises(&FileDisk::new(&options(folder.path().join("direct"))).unwrap());
    let cached = FileOptions {
        direct: false,
        ..options(folder.path().join("cached"))
    };
    keeps_its_promises(&FileDisk::new(&cached).unwrap());
    let threaded = FileOptions {
        ring: RingOptions {
            submission_thread: true,
            ..RingOptions::default()
        },
        ..options(folder.path().join("threaded"))
    };
    keeps_its_promises(&FileDisk::new(&threaded).unwrap());
}

#[test]
fn a_file_behind_every_wrapper_keeps_them_too() {
    let folder = folder();
    let file = FileDisk::new(&options(folder.path().join("disk"))).unwrap();
    let latency = Latency::Uniform {
        min: Duration::from_micros(1),
        max: Duration::from_micros(200),
    };
    let latencies = Latencies {
        read: latency,
        write: latency,
        seed: None,
    };
    let rule = FailureRule {
        probability: 1.0,
        kinds: OperationKinds::all(),
        // Beyond its end.
        bytes: Some(1 << 40..1 << 41),
        outcome: Outcome::Unsupported,
        sticky: false,
        seed: None,
    };
    let limits = RateLimits {
        iops: Some(Rate {
            per_second: 5000,
            burst: 1,
        }),
        bps: None,
    };
    keeps_its_promises(&Throttle::new(
        Failing::new(Delay::new(file, latencies), rule),
        limits,
    ));
}

#[test]
fn blocks_larger_than_the_storages_keep_them_too() {
    let folder = folder();
    let large = FileOptions {
        block_bytes: Some(4096),
        ..options(folder.path().join("disk"))
    };
    let disk = FileDisk::new(&large).unwrap();
    assert_eq!(disk.geometry().block_bytes, 4096);
    keeps_its_promises(&disk);
}

#[test]
fn the_ram_backend_keeps_them_too() {
    let options = DiskOptions {
        size_bytes: 8 << 20,
        ..DiskOptions::default()
    };
    keeps_its_promises(&Ram::new(&options, &RamMemory::Sparse, false).unwrap());
}

#[test]
fn what_is_registered_is_used_as_it_is_and_given_back() {
    let folder = folder();
    let disk = FileDisk::new(&options(folder.path().join("disk"))).unwrap();
    let mut rig = Rig::new(&disk);
    let memory = memfd_create("memory", MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&memory, 1 << 20).unwrap();
    let mapping = Mapping::new(memory, 0, 1 << 20, Access::ReadWrite).unwrap();
    let region = Region {
        first: Iova(0),
        last: Iova((1 << 20) - 1),
        mapping: mapping.into(),
    };
    let table = RegionTable::new(vec![region]).unwrap();
    let data = |at| {
        let direction = pollux_dataplane::mem::Direction::Writable;
        table.segment(Iova(at), 4096, direction).unwrap()
    };
    for (place, is_registered) in [(0, false), (1, true), (2, false)] {
        match is_registered {
            true => rig.queue.set_memory(&table),
            false => rig.queue.set_memory(&RegionTable::default()),
        }
        let before = rig.queue.counts().registered;
        data(0).copy_from(&pattern(place, 4096));
        let range = rig.range(place * 8, 4096);
        let write = Operation::Write {
            range,
            from: &[data(0)],
        };
        assert_eq!(rig.carry_out(write), Outcome::Done);
        let read = Operation::Read {
            range,
            into: &[data(8192)],
        };
        assert_eq!(rig.carry_out(read), Outcome::Done);
        let mut found = vec![0; 4096];
        data(8192).copy_to(&mut found);
        assert!(found == pattern(place, 4096));
        let used = rig.queue.counts().registered - before;
        assert_eq!(used, if is_registered { 2 } else { 0 });
    }
}

/// Reads in batches. Returns system calls that took, and looks for a completion that found none.
fn read_in_batches(rig: &mut Rig<impl BackendQueue>, batches: u64) -> (u64, u64) {
    let memory = std::sync::Arc::clone(&rig.memory);
    let (before, mut dry) = (rig.queue.counts().system_calls, 0);
    for _ in 0..batches {
        let mut pending = BATCH;
        for token in 0..BATCH {
            let into = &[segment(&memory, (usize::from(token) * 4096, 4096))];
            let range = rig.range(0, 4096);
            let submitted = rig.queue.submit(token, Operation::Read { range, into });
            assert_eq!(submitted, Submission::Pending);
        }
        rig.queue.commit();
        while pending > 0 {
            match rig.queue.complete() {
                Some((_, outcome)) => {
                    assert_eq!(outcome, Outcome::Done);
                    pending -= 1;
                }
                None => dry += 1,
            }
        }
    }
    (rig.queue.counts().system_calls - before, dry)
}

const BATCH: u16 = 32;

#[test]
fn the_kernel_is_entered_at_most_once_a_pass() {
    let folder = folder();
    let disk = FileDisk::new(&options(folder.path().join("disk"))).unwrap();
    let mut rig = Rig::new(&disk);
    rig.write(0, &[(0, 4096)]);
    let batches = 100;
    let (calls, dry) = read_in_batches(&mut rig, batches);
    assert!(calls >= batches, "{calls}");
    // One to submit, and one for every other pass that finds nothing.
    assert!(
        calls <= batches + dry.div_ceil(2),
        "{calls} calls, {dry} dry"
    );
}

#[test]
fn a_submission_thread_takes_no_system_call() {
    let folder = folder();
    let threaded = FileOptions {
        ring: RingOptions {
            submission_thread: true,
            ..RingOptions::default()
        },
        ..options(folder.path().join("disk"))
    };
    let mut rig = Rig::new(&FileDisk::new(&threaded).unwrap());
    rig.write(0, &[(0, 4096)]);
    let (calls, _) = read_in_batches(&mut rig, 100);
    // It sleeps after a second without work, on a machine that stands still as long.
    assert!(calls <= 2, "{calls} calls");
}

#[test]
fn whoever_sleeps_is_woken_by_a_completion() {
    let folder = folder();
    for (direct, threaded) in [(true, false), (false, false), (true, true)] {
        let options = FileOptions {
            direct,
            ring: RingOptions {
                submission_thread: threaded,
                ..RingOptions::default()
            },
            ..options(folder.path().join("disk"))
        };
        let mut rig = Rig::new(&FileDisk::new(&options).unwrap());
        let memory = std::sync::Arc::clone(&rig.memory);
        for place in 0..200 {
            let into = &[segment(&memory, (0, 4096))];
            let range = rig.range(place * 8, 4096);
            let read = Operation::Read { range, into };
            assert_eq!(rig.queue.submit(7, read), Submission::Pending);
            rig.queue.commit();
            while rig.queue.complete().is_none() {
                // As a worker does that sleeps whenever it can.
                if let Some(fd) = rig.queue.completion_fd() {
                    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
                    let woken = poll(&mut fds, PollTimeout::from(10_000_u16)).unwrap();
                    assert_eq!(woken, 1, "nobody wakes it: {direct} {threaded}");
                }
            }
        }
    }
}

#[test]
fn a_storage_that_ends_early_is_an_error() {
    let folder = folder();
    let path = folder.path().join("disk");
    let disk = FileDisk::new(&options(path.clone())).unwrap();
    let mut rig = Rig::new(&disk);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    assert_eq!(rig.read(0, &[(0, 4096)]), Outcome::Done);
    let eio = Outcome::Failed { errno: libc_eio() };
    assert_eq!(rig.read(4 << 11, &[(0, 4096)]), eio);
    // Part of it is there.
    assert_eq!(rig.read((1 << 11) - 8, &[(0, 8192)]), eio);
}

fn libc_eio() -> i32 {
    nix::errno::Errno::EIO as i32
}

#[test]
fn one_daemon_at_a_time_has_a_file() {
    let folder = folder();
    let disk = || FileDisk::new(&options(folder.path().join("disk"))).unwrap();
    let (one, other) = (disk(), disk());
    one.claim().unwrap();
    one.claim().unwrap();
    let refused = other.claim().expect_err("it is claimed").to_string();
    assert!(refused.contains("another daemon serves it"), "{refused}");
    one.release();
    other.claim().unwrap();
    drop(other);
    let reader = || {
        let read_only = FileOptions {
            read_only: true,
            ..options(folder.path().join("disk"))
        };
        FileDisk::new(&read_only).unwrap()
    };
    let readers = (reader(), reader());
    readers.0.claim().unwrap();
    readers.1.claim().unwrap();
    assert!(matches!(
        one.claim(),
        Err(DiskError::Storage(FileError::InUse { .. }))
    ));
}

#[test]
fn what_cannot_be_served_is_refused_with_its_remedy() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let size = |size_bytes, path: &Path| FileOptions {
        size_bytes,
        ..options(path.to_owned())
    };
    fs::write(at("odd"), [1; 1000]).unwrap();
    fs::write(at("whole"), [1; 8192]).unwrap();
    fs::write(at("empty"), []).unwrap();
    for (options, expected) in [
        (size(None, &at("none")), "add size="),
        (size(None, &at("empty")), "is empty: give a size"),
        (size(None, &at("odd")), "not a multiple of the block size"),
        (
            size(Some(4096), &at("whole")),
            "has 8192 bytes, not the 4096",
        ),
        (size(Some(1000), &at("new")), "not a multiple"),
        (size(None, folder.path()), "neither a file"),
        (
            size(None, Path::new("/dev/null")),
            "neither a file nor a block device",
        ),
    ] {
        let refused = error(&options);
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    let block = FileOptions {
        is_block: true,
        ..size(None, &at("whole"))
    };
    assert!(
        error(&block).contains("write file,path="),
        "{}",
        error(&block)
    );
    let small = FileOptions {
        block_bytes: Some(256),
        ..size(None, &at("whole"))
    };
    assert!(error(&small).contains("block_size 256"));
    let held = fs::read(at("whole")).unwrap();
    assert_eq!(held, [1; 8192]);
}

#[test]
fn a_size_is_noticed_when_it_is_asked_for() {
    let folder = folder();
    let path = folder.path().join("disk");
    let mut disk = FileDisk::new(&options(path.clone())).unwrap();
    let length = || fs::metadata(&path).unwrap().len();
    let grown = disk.resized(16 << 20).unwrap();
    disk.resize(grown).unwrap();
    assert_eq!(
        (length(), disk.geometry().size_bytes()),
        (16 << 20, 16 << 20)
    );
    // Longer behind our back: what is there stays.
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(32 << 20).unwrap();
    file.write_all_at(b"end", (32 << 20) - 3).unwrap();
    let grown = disk.resized(24 << 20).unwrap();
    disk.resize(grown).unwrap();
    assert_eq!(
        (length(), disk.geometry().size_bytes()),
        (32 << 20, 24 << 20)
    );
    let shrunk = disk.resized(4 << 20).unwrap();
    disk.resize(shrunk).unwrap();
    assert_eq!(length(), 4 << 20);
    assert!(disk.resized(1000).is_err());
    fs::rename(&path, folder.path().join("old")).unwrap();
    fs::write(&path, [0; 4096]).unwrap();
    let refused = disk.resized(8 << 20).expect_err("replaced").to_string();
    assert!(refused.contains("another file"), "{refused}");
}

#[test]
fn a_serial_is_the_one_that_was_written_or_the_fallback() {
    let folder = folder();
    let disk = FileDisk::new(&options(folder.path().join("disk"))).unwrap();
    assert_eq!(&disk.geometry().serial[..9], b"fallback\0");
    let written = FileOptions {
        serial: "written".into(),
        ..options(folder.path().join("disk"))
    };
    let disk = FileDisk::new(&written).unwrap();
    assert_eq!(&disk.geometry().serial[..8], b"written\0");
}
