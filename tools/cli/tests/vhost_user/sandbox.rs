//! What a sandboxed daemon still may, and does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{BLOCK, Client};
use super::daemon::Daemon;
use super::{SPLIT, alone, prove};

/// Returns the folder of the daemon's thread called `name`.
fn thread(daemon: &Daemon, name: &str) -> PathBuf {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let is_it = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap().trim() == name;
    tasks.find(is_it).expect(name)
}

/// Returns the field `name` of a thread's status.
fn field(thread: &Path, name: &str) -> String {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.expect(name).trim_start_matches(':').trim().to_owned()
}

/// What `strace -ff` has written of one thread.
struct Trace(PathBuf);

impl Trace {
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

/// Returns the names of the calls in `lines`.
fn calls(lines: &[String]) -> BTreeSet<&str> {
    let named = lines
        .iter()
        .filter_map(|line| Some(line.split_once('(')?.0));
    named.filter(|name| !name.contains(' ')).collect()
}

/// Returns the part of a worker's life from its confinement on.
fn confined(lines: &[String]) -> &[String] {
    let is_filter = |line: &String| line.contains("SECCOMP_SET_MODE_FILTER");
    let last = lines.iter().rposition(is_filter);
    &lines[last.expect("the worker has a filter") + 1..]
}

/// What a worker does from its start to its end: wake up, answer, map and unmap memory, and end. Opening is refused.
const BESIDE_LOAD: &[&str] = &[
    "brk",
    "close",
    "exit",
    "fcntl",
    "futex",
    "io_uring_register",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "openat",
    "poll",
    "read",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "write",
];

#[test]
fn a_worker_makes_the_expected_calls_and_no_others() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    let (kept, made) = (
        format!("ram,size=64M,path={}/ram", folder.path().display()),
        format!("file,path={},size=64M", file.display()),
    );
    for (index, (backend, of_storage)) in [
        ("null,size=64M", &[][..]),
        ("ram,size=64M", &[]),
        (&kept, &["fdatasync"]),
        (&made, &["io_uring_enter"]),
    ]
    .into_iter()
    .enumerate()
    {
        let prefix = folder.path().join(format!("trace-{index}"));
        let prefix = prefix.to_str().unwrap();
        let tracer = ["strace", "-D", "-ff", "-o", prefix];
        let daemon = Daemon::serve_traced(backend, &["--poll", "event"], &tracer);
        let worker = thread(&daemon, "d0/vq0");
        let id = worker.file_name().unwrap().to_str().unwrap();
        let trace = Trace(format!("{prefix}.{id}").into());
        let mut client = Client::connect(daemon.socket(), SPLIT, 1);
        let mut load = |seed: u8| {
            for number in 0..64 {
                client.write(0, number, &[seed; BLOCK]);
                if !backend.starts_with("null") {
                    assert_eq!(client.read(0, number), [seed; BLOCK]);
                }
            }
            client.flush(0);
            // A traced worker is slow: one that always finds another request never comes to sleep.
            std::thread::sleep(Duration::from_millis(20));
        };
        load(1);
        let before = trace.lines().len();
        // strace keeps some lines back until it has more.
        let mut seed = 2;
        while trace.lines().len() <= before + 64 {
            assert!(seed < u8::MAX, "{backend}: the trace is late");
            load(seed);
            seed += 1;
        }
        let all = trace.lines();
        // This driver polls and asks for no interrupt, which would be a write, as an answer to control is.
        let expected = BTreeSet::from_iter([&["poll", "read"][..], of_storage].concat());
        let mut seen = calls(&all[before..]);
        seen.remove("write");
        assert_eq!(seen, expected, "{backend}");
        drop(client);
        daemon.stop();
        let life = trace.lines();
        let life = confined(&life);
        let may = [BESIDE_LOAD, of_storage].concat();
        let others = calls(life).into_iter().filter(|call| !may.contains(call));
        assert_eq!(others.collect::<Vec<_>>(), [""; 0], "{backend}");
        for line in life.iter().filter(|line| line.starts_with("openat(")) {
            assert!(line.contains("EACCES"), "{line}");
        }
    }
}

#[test]
fn workers_have_no_rights_and_the_other_threads_few() {
    let _alone = alone();
    for (sandbox, filter) in [("on", "2"), ("log", "2"), ("off", "0")] {
        let daemon = Daemon::serve("ram,size=64M", &["--sandbox", sandbox]);
        let mut client = Client::connect(daemon.socket(), SPLIT, 1);
        prove(&mut client, 1, 9);
        let is_on = sandbox != "off";
        let worker = thread(&daemon, "d0/vq0");
        for name in ["d0/vq0", "d0/control", "api", "signals"] {
            let thread = thread(&daemon, name);
            assert_eq!(field(&thread, "Seccomp"), filter, "{name}");
            assert_eq!(field(&thread, "NoNewPrivs") == "1", is_on, "{name}");
            let effective = u64::from_str_radix(&field(&thread, "CapEff"), 16).unwrap();
            // Root's right to files is the one that stays.
            assert!(!is_on || effective & !(1 << 1) == 0, "{name}");
        }
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let none = "0000000000000000";
            assert!(!is_on || field(&worker, set) == none, "{set}");
        }
        drop(client);
        daemon.stop();
    }
}

#[test]
fn what_holds_data_is_in_no_core_dump() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let made = format!("file,path={}/disk,size=64M", folder.path().display());
    for backend in ["ram,size=64M", &made] {
        let daemon = Daemon::serve(backend, &[]);
        let mut client = Client::connect(daemon.socket(), SPLIT, 1);
        prove(&mut client, 1, 5);
        let maps = fs::read_to_string(format!("/proc/{}/smaps", daemon.pid())).unwrap();
        let mut shared = 0;
        let mut lines = maps.lines();
        while let Some(line) = lines.next() {
            if !line.contains("memfd:") {
                continue;
            }
            let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
            let flags = flags.expect("flags");
            assert!(flags.split(' ').any(|flag| flag == "dd"), "{line}: {flags}");
            shared += 1;
        }
        // The driver's rings and data, the log of its requests, and the disk.
        let least = if backend == "ram,size=64M" { 3 } else { 2 };
        assert!(shared >= least, "{backend}: {maps}");
        drop(client);
        daemon.stop();
    }
}

#[test]
fn a_disk_behind_a_link_is_within_reach() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    fs::create_dir(folder.path().join("there")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("there/disk"), &link).unwrap();
    fs::write(folder.path().join("there/disk"), vec![0; 1 << 20]).unwrap();
    let backend = format!("file,path={}", link.display());
    let daemon = Daemon::serve(&backend, &[]);
    let mut client = Client::connect(daemon.socket(), SPLIT, 1);
    assert_eq!(client.capacity_bytes(), 1 << 20);
    prove(&mut client, 1, 3);
    drop(client);
    daemon.stop();
}
