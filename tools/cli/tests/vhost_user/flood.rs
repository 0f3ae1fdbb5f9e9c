//! A frontend that does again and again what is worth a line in the log, and clients that are many.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use rustix::process::setpriority_process;

use crate::api::{ask, request};
use crate::client::{BLOCK, Client};
use crate::daemon::Daemon;
use crate::{SPLIT, alone, prove};

const FRONTENDS: u64 = 2000;

/// Of each of the two kinds of lines: a burst, and for as long as it may take one a second, each with one that counts.
fn lines_max(took: Duration) -> u64 {
    2 * (10 + 2 * (took.as_secs() + 1))
}

/// Returns how many lines were left out, by the log.
fn left_out(log: &str) -> u64 {
    let counts = log.lines().filter_map(|line| {
        let (before, _) = line.split_once(" more of these were left out")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    });
    counts.sum()
}

#[test]
fn frontends_that_make_no_sense_do_not_fill_the_log() {
    let _alone = alone();
    let daemon = Daemon::serve("ram,size=64M", &[]);
    let begun = Instant::now();
    for _ in 0..FRONTENDS {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all(&[0xff; 64]).unwrap();
        // Hung up on. What it had not read resets the connection.
        let _ = stream.read(&mut [0]);
    }
    let took = begun.elapsed();
    let mut client = Client::connect(daemon.socket(), SPLIT, 1);
    prove(&mut client, 1, 1);
    drop(client);
    // Each is worth two lines, written or counted: it comes, and is hung up on. The last one comes, is ready and leaves.
    let all = 2 * FRONTENDS + 3;
    let told = |log: &str| {
        let about = log.lines().filter(|line| line.contains("frontend"));
        let counting = |line: &&str| line.contains("were left out");
        about.filter(|line| !counting(line)).count() as u64 + left_out(log)
    };
    while told(&daemon.log()) < all {
        let log = daemon.log();
        let waited = begun.elapsed() - took;
        assert!(
            waited < Duration::from_secs(20),
            "{} of {all}: {log}",
            told(&log)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = daemon.log();
    let lines = log.lines().count() as u64;
    assert!(
        lines <= lines_max(took) + 10,
        "{lines} lines in {took:?}: {log}"
    );
    assert_eq!(told(&log), all, "{log}");
    daemon.stop();
}

/// How long each of the two series of reads goes on, at least.
const SERIES: Duration = Duration::from_secs(3);

const CONNECTIONS: usize = 10_000;

/// Returns the p50, p99 and maximum of reads of one block, one every 0.2 ms while `goes_on`, in microseconds.
fn latencies_us(client: &mut Client, mut goes_on: impl FnMut() -> bool) -> [f64; 3] {
    let mut latencies = Vec::new();
    for number in (0..64).cycle() {
        if !goes_on() {
            break;
        }
        let begun = Instant::now();
        let data = client.read(0, number);
        latencies.push(begun.elapsed());
        assert!(data == [number as u8; BLOCK], "block {number}");
        std::thread::sleep(Duration::from_micros(200));
    }
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1e6;
    [at(50), at(99), at(100)]
}

/// Asks for all that there is until `is_over`. Returns how often.
fn ask_on(daemon: &Daemon, is_over: &AtomicBool) -> usize {
    let mut asked = 0;
    while !is_over.load(Ordering::Relaxed) {
        for path in ["/v1/devices", "/metrics", "/v1/openapi.json"] {
            assert_eq!(ask(daemon, &request("GET", path, "")).0, 200, "{path}");
            asked += 1;
        }
    }
    asked
}

/// Half a request each.
fn connect(daemon: &Daemon) -> Vec<UnixStream> {
    let silent = || {
        let mut stream = UnixStream::connect(daemon.api()).unwrap();
        // It may have been hung up on.
        let _ = stream.write_all(b"GET /v1/dev");
        stream
    };
    (0..CONNECTIONS).map(|_| silent()).collect()
}

#[test]
fn a_flood_of_clients_leaves_the_worker_its_cpu() {
    let _alone = alone();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let daemon = Daemon::serve("ram,size=64M", &["--poll", "busy", "--cpus", "1"]);
    // All threads that do anything but the worker are elsewhere.
    let mut on_its_cpu = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let task = task.unwrap();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap();
        let id = task.file_name().to_str().unwrap().parse().unwrap();
        let cpus = sched_getaffinity(Pid::from_raw(id)).unwrap();
        if cpus.is_set(1).unwrap() {
            on_its_cpu.push(name.trim().to_owned());
        }
    }
    on_its_cpu.sort();
    assert_eq!(on_its_cpu, ["d0/vq0", "signals"]);
    // So are the clients, who give way to the driver.
    let mut other = CpuSet::new();
    other.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &other).unwrap();
    let is_over = AtomicBool::new(false);
    let (quiet, flooded, asked) = std::thread::scope(|scope| {
        let driver = scope.spawn(|| {
            // Who may not is told apart by the figures.
            let _ = setpriority_process(None, -20);
            let mut client = Client::connect(daemon.socket(), SPLIT, 1);
            for number in 0..64 {
                client.write(0, number, &[number as u8; BLOCK]);
            }
            let begun = Instant::now();
            let quiet = latencies_us(&mut client, || begun.elapsed() < SERIES);
            let asking = scope.spawn(|| ask_on(&daemon, &is_over));
            let connecting = scope.spawn(|| connect(&daemon));
            let begun = Instant::now();
            let flooded = latencies_us(&mut client, || {
                begun.elapsed() < SERIES || !connecting.is_finished()
            });
            is_over.store(true, Ordering::Relaxed);
            (quiet, flooded, asking.join().unwrap())
        });
        driver.join().unwrap()
    });
    assert!(asked > 0);
    println!("p50, p99 and most of a read in us: {quiet:.1?} before, {flooded:.1?} in the flood");
    println!("{asked} requests were answered meanwhile, beside {CONNECTIONS} that never came");
    daemon.stop();
}
