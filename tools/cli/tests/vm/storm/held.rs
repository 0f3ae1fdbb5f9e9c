//! What a daemon and its machine hold, and whether it grows.

use crate::guest::{Daemon, read, write};

/// What rounds may cost altogether, in KiB: caches of the machine go up and down by mebibytes. One leaked set of bounce
/// buffers or rings a round costs more before long.
const DAEMON_KIB_MAX: f64 = 1024.0;
const SLAB_KIB_MAX: f64 = 4096.0;
const MACHINE_KIB_MAX: f64 = 24_576.0;

/// What is held at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    files: usize,
    threads: usize,
    /// Shared mappings, as those of drivers' memory are.
    mappings: usize,
    /// Memory of the daemon without that of its disk, in KiB.
    daemon_kib: f64,
    /// Memory of the kernel that it cannot take back, in KiB.
    slab_kib: f64,
    /// Memory of the machine that is in use, in KiB, without that of the disk, which loads fill.
    machine_kib: f64,
}

impl Held {
    pub(super) fn by(daemon: &Daemon) -> Self {
        let process = format!("/proc/{}", daemon.pid());
        let count = |name| {
            let folder = std::fs::read_dir(format!("{process}/{name}"));
            folder.expect("a process").count()
        };
        let is_shared = |line: &&str| {
            let access = line.split_whitespace().nth(1);
            access.is_some_and(|access| access.ends_with('s'))
        };
        write("/proc/sys/vm/drop_caches", "3");
        let memory = read("/proc/meminfo");
        Self {
            files: count("fd"),
            threads: count("task"),
            mappings: read(format!("{process}/maps"))
                .lines()
                .filter(is_shared)
                .count(),
            daemon_kib: kib(&read(format!("{process}/status")), "RssAnon:"),
            slab_kib: kib(&memory, "SUnreclaim:"),
            machine_kib: kib(&memory, "MemTotal:")
                - kib(&memory, "MemAvailable:")
                - kib(&memory, "Shmem:"),
        }
    }
}

/// Returns the number of KiB after `label` in `text`.
fn kib(text: &str, label: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(label));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|n| n.parse().ok()).expect(label)
}

/// Returns how much `values` grow a step: the median of the slopes between all pairs, which a few odd values do not
/// move (Theil and Sen).
fn slope(values: &[f64]) -> f64 {
    let pairs = (0..values.len()).flat_map(|i| (i + 1..values.len()).map(move |j| (i, j)));
    let mut slopes: Vec<f64> = pairs
        .map(|(i, j)| (values[j] - values[i]) / (j - i) as f64)
        .collect();
    slopes.sort_by(f64::total_cmp);
    slopes[slopes.len() / 2]
}

/// Returns what the machine's memory in use grows a round, in KiB.
fn machine_cost(held: &[Held]) -> f64 {
    let values: Vec<f64> = held.iter().map(|held| held.machine_kib).collect();
    slope(&values)
}

/// Returns whether the machine holds more and more, so far.
pub(super) fn machine_grows(held: &[Held]) -> bool {
    machine_cost(held) * held.len() as f64 >= MACHINE_KIB_MAX
}

/// Sees that nothing grew from round to round.
pub(super) fn assert_no_leak(held: &[Held]) {
    let (first, last) = (held[0], held[held.len() - 1]);
    let counts = |held: Held| (held.files, held.threads, held.mappings);
    let costs = |of: fn(&Held) -> f64| {
        let values: Vec<f64> = held.iter().map(of).collect();
        slope(&values)
    };
    let daemon = costs(|held| held.daemon_kib);
    let slab = costs(|held| held.slab_kib);
    let machine = machine_cost(held);
    eprintln!(
        "{} rounds; KiB a round: daemon {daemon:+.1}, slab {slab:+.1}, machine {machine:+.1}; files, threads, \
         mappings: {:?} before, {:?} after",
        held.len(),
        counts(first),
        counts(last)
    );
    assert_eq!(counts(last), counts(first), "files, threads, mappings");
    let rounds = held.len() as f64;
    assert!(daemon * rounds < DAEMON_KIB_MAX, "{held:?}");
    assert!(slab * rounds < SLAB_KIB_MAX, "{held:?}");
    assert!(!machine_grows(held), "{held:?}");
}
