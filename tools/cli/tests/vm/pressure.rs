//! Nothing that serves waits for memory.

use crate::guest::{Daemon, Fio, in_guest, read};

/// `PF_MEMALLOC_NOIO` and `PF_LOCAL_THROTTLE` (`include/linux/sched.h`), which an I/O flusher has.
const IO_FLUSHER: u64 = 0x0008_0000 | 0x0010_0000;

/// A thread as `/proc/PID/task/TID/stat` shows it (proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    flags: u64,
    faults: u64,
}

fn threads(daemon: &Daemon) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("a process");
    let threads = tasks.map(|task| {
        let stat = read(task.expect("an entry").path().join("stat"));
        let (start, rest) = stat.rsplit_once(')').expect("a name");
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first of them is the third of all.
        let field = |number: usize| fields[number - 3].parse::<u64>().expect("a number");
        Thread {
            name: start.split_once('(').expect("a name").1.into(),
            flags: field(9),
            faults: field(10) + field(12),
        }
    });
    threads.collect()
}

fn worker_faults(daemon: &Daemon) -> Vec<(String, u64)> {
    let mut faults: Vec<_> = threads(daemon)
        .into_iter()
        .filter(|thread| thread.name.starts_with("d0/vq"))
        .map(|thread| (thread.name, thread.faults))
        .collect();
    faults.sort();
    assert_eq!(faults.len(), 2, "{faults:?}");
    faults
}

/// Page faults of the workers from their start to the first request's end, to when all was used once, and to the end.
struct Faults {
    start: u64,
    warm: u64,
    end: u64,
    requests: u64,
}

/// Serves `backend` with `umem` and runs a load twice.
fn faults_under_load(backend: &str, umem: &str) -> Faults {
    let options = ["--queues", "2", "--attach", "virtio", "--umem", umem];
    let daemon = Daemon::serve("d0", backend, &options);
    let node = daemon.disk().node().to_owned();
    let load = |rw: &str, ios: &str, bytes: &str| {
        Fio::new(&node, rw, "4k", 32)
            .with("numjobs", "2")
            .with("cpus_allowed", "0,1")
            .with("cpus_allowed_policy", "split")
            .with("group_reporting", "1")
            .with("bssplit", "4k/80:64k/20")
            .with("norandommap", "1")
            .with("number_ios", ios)
            .with("size", "32M")
            .with("io_size", bytes)
    };
    let start = worker_faults(&daemon);
    // All blocks of the disk, all entries of the rings.
    load("write", "1000000", "32M").run();
    load("randrw", "10000", "2G").run();
    // All descriptors at a time.
    load("randread", "2000", "2G")
        .with("iodepth", "256")
        .with("bssplit", "64k/100")
        .run();
    // The code that hands a histogram over.
    daemon.snapshot();
    let warm = worker_faults(&daemon);
    let report = load("randrw", "25000", "2G").run();
    // A histogram is swapped for a new one.
    daemon.snapshot();
    let more = load("randrw", "5000", "2G").run();
    let end = worker_faults(&daemon);
    eprintln!("{backend}, umem {umem}: {start:?} at start, {warm:?} warm, {end:?} at the end");
    let sum = |all: &[(String, u64)]| all.iter().map(|(_, faults)| faults).sum::<u64>();
    daemon.stop();
    Faults {
        start: sum(&start),
        warm: sum(&warm),
        end: sum(&end),
        requests: report.requests() + more.requests(),
    }
}

#[test]
fn a_worker_has_no_page_fault_after_its_start() {
    in_guest(|| {
        for backend in ["null,size=64M", "ram,size=64M,prealloc=on"] {
            let faults = faults_under_load(backend, "anon");
            assert!(faults.requests >= 50_000, "{}", faults.requests);
            assert_eq!(faults.end, faults.start, "{backend}");
        }
    });
}

#[test]
fn pages_of_a_sparse_disk_and_of_the_kernel_are_faulted_in_once() {
    in_guest(|| {
        let sparse = faults_under_load("ram,size=64M", "anon");
        assert_eq!(sparse.end, sparse.warm);
        // Without memory of the daemon's, each page of the bounce region at its first use by the process, and never
        // again: the requests use over ten times as many.
        let faults = faults_under_load("null,size=64M", "off");
        let pages = (64 << 20) / 4096;
        assert!(faults.requests >= 50_000, "{}", faults.requests);
        assert!(faults.end - faults.warm < pages, "{}", faults.end);
    });
}

#[test]
fn threads_are_io_flushers_and_memory_is_locked_as_it_is_used() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=1G", &["--queues", "2"]);
        let threads = threads(&daemon);
        assert!(threads.len() >= 4, "{threads:?}");
        for thread in threads {
            assert_eq!(thread.flags & IO_FLUSHER, IO_FLUSHER, "{thread:?}");
        }
        let status = read(format!("/proc/{}/status", daemon.pid()));
        let kib = |key: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|n| n.parse().ok())
                .expect("a number of KiB")
        };
        assert!(kib("VmLck:") > 0, "{status}");
        // The disk takes no memory before it is written.
        assert!(kib("VmRSS:") < 100 << 10, "{status}");
        assert!(!daemon.log().contains("WARN"), "{}", daemon.log());
        daemon.stop();
    });
}
