//! What spoils figures, looked for before the load and after it.

use std::fs;
use std::thread;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Point;
use crate::cpus::Pair;
use crate::environment::{governor, hypervisor};
use crate::revision::Build;

/// Time in which the CPUs are watched before anything runs.
const WATCH: Duration = Duration::from_millis(300);
/// Share of a CPU's time that does not matter.
const TOLERATED: f64 = 0.03;

/// Something that spoils figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What.
    pub what: Spoiler,
    /// More of it, with what to do.
    pub text: String,
}

/// What spoils figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Spoiler {
    /// Every instruction is emulated.
    Emulated,
    /// The clock speed follows the load.
    Governor,
    /// The hypervisor gave the CPU to others.
    Steal,
    /// Other programs have the CPUs, too.
    Busy,
    /// Client and worker take turns.
    SharedCpu,
    /// Fewer CPUs than threads.
    TooFewCpus,
    /// Client and worker share one core's units.
    SharedCore,
    /// Others had the CPUs while the load ran.
    Waited,
    /// No optimization.
    DebugBuild,
    /// Requests failed.
    Errors,
}

impl Finding {
    pub(super) fn new(what: Spoiler, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { what, text }
    }
}

/// Adds what was found while earlier rounds were measured, unless it is there or will be found in their points.
pub(super) fn go_on(found: &mut Vec<Finding>, earlier: Vec<Finding>) {
    let is_new = |finding: &Finding| {
        !matches!(finding.what, Spoiler::Errors | Spoiler::Waited) && !found.contains(finding)
    };
    let new: Vec<Finding> = earlier.into_iter().filter(is_new).collect();
    found.extend(new);
}

/// Looks for what is known before the load.
pub(super) fn look(cpus: &Pair) -> Vec<Finding> {
    let mut found = Vec::new();
    if hypervisor().is_some_and(|it| it.starts_with("TCG")) {
        let text = "every instruction is emulated (QEMU TCG): compare ratios only";
        found.push(Finding::new(Spoiler::Emulated, text));
    }
    if let Some(governor) = governor().filter(|it| it != "performance") {
        let text = format!(
            "the clock speed follows the load ({governor}): cpupower frequency-set -g performance"
        );
        found.push(Finding::new(Spoiler::Governor, text));
    }
    if Build::of_this().debug {
        let text = "this program was built without optimization: cargo build --release";
        found.push(Finding::new(Spoiler::DebugBuild, text));
    }
    found.extend(placement(cpus));
    let before = CpuTimes::read(cpus);
    thread::sleep(WATCH);
    found.extend(CpuTimes::read(cpus).since(&before).findings());
    found
}

/// Looks whether requests failed.
pub(super) fn errors(points: &[Point]) -> Option<Finding> {
    let errors = points.iter().map(|point| point.errors).sum::<u64>();
    (errors > 0).then(|| {
        let text = format!("{errors} requests failed: their latency says little");
        Finding::new(Spoiler::Errors, text)
    })
}

/// Looks whether the threads had their CPUs to themselves.
pub(super) fn waited(points: &[Point]) -> Option<Finding> {
    let waited = points.iter();
    let waited = waited.map(|it| it.worker_thread.waited_ns.max(it.client_thread.waited_ns));
    let elapsed: u64 = points.iter().map(|point| point.elapsed_ns).sum();
    let share = waited.sum::<u64>() as f64 / elapsed.max(1) as f64;
    (share > TOLERATED).then(|| {
        let text = format!(
            "client or worker waited for its CPU {:.0} % of the time: end what else runs there",
            share * 100.0
        );
        Finding::new(Spoiler::Waited, text)
    })
}

fn placement(cpus: &Pair) -> Option<Finding> {
    let Pair { client, worker, .. } = cpus;
    if cpus.allowed < 2 {
        let text = "there is one CPU for two threads that poll: use a machine with 2";
        return Some(Finding::new(Spoiler::TooFewCpus, text));
    }
    if client == worker {
        let text = format!("client and worker share CPU {client}: give each its own");
        return Some(Finding::new(Spoiler::SharedCpu, text));
    }
    cpus.one_core.then(|| {
        let text = format!("CPU {client} and {worker} are threads of one core: choose others");
        Finding::new(Spoiler::SharedCore, text)
    })
}

/// Times of the two CPUs, in ticks of the kernel's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTimes {
    total: u64,
    idle: u64,
    steal: u64,
}

impl CpuTimes {
    /// Returns what `/proc/stat` says of the CPUs.
    pub(super) fn read(cpus: &Pair) -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&text, &[cpus.client, cpus.worker])
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in user.
    fn parse(text: &str, cpus: &[usize]) -> Self {
        let mut sum = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let cpu = words.next().and_then(|it| it.strip_prefix("cpu"));
            let cpu = cpu.and_then(|it| it.parse::<usize>().ok());
            if cpu.is_none_or(|it| !cpus.contains(&it)) {
                continue;
            }
            let times: Vec<u64> = words.map(|it| it.parse().unwrap_or(0)).take(8).collect();
            sum.total += times.iter().sum::<u64>();
            sum.idle += times.iter().skip(3).take(2).sum::<u64>();
            sum.steal += times.get(7).copied().unwrap_or(0);
        }
        sum
    }

    /// Returns what has passed since `before`.
    pub(super) fn since(self, before: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            idle: self.idle.saturating_sub(before.idle),
            steal: self.steal.saturating_sub(before.steal),
        }
    }

    /// Returns the share of time that the hypervisor gave to others.
    pub(super) fn steal_share(self) -> f64 {
        self.steal as f64 / self.total.max(1) as f64
    }

    /// Of CPUs on which nothing of ours ran.
    fn findings(self) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.steal().into_iter().collect();
        let busy = self.total.saturating_sub(self.idle + self.steal);
        let share = busy as f64 / self.total.max(1) as f64;
        if share > TOLERATED {
            let text = format!(
                "other programs use {:.0} % of the CPUs: end them, or choose other CPUs",
                share * 100.0
            );
            found.push(Finding::new(Spoiler::Busy, text));
        }
        found
    }

    /// Of CPUs, whatever ran there.
    pub(super) fn steal(self) -> Option<Finding> {
        let share = self.steal_share();
        (share > TOLERATED).then(|| {
            let text = format!(
                "the hypervisor gave {:.0} % of the CPUs' time to others: run again",
                share * 100.0
            );
            Finding::new(Spoiler::Steal, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  9 9 9 9 9 9 9 9 9 9
cpu0 10 0 10 70 10 0 0 0 10 0
cpu1 0 0 0 90 0 0 0 10 0 0
cpu10 1 1 1 1 1 1 1 1 0 0
intr 1\n";

    #[test]
    fn times_of_the_named_cpus_are_added_up() {
        let times = CpuTimes::parse(STAT, &[0, 1]);
        assert_eq!((times.total, times.idle, times.steal), (200, 170, 10));
        let found = times.findings();
        let what: Vec<Spoiler> = found.iter().map(|it| it.what).collect();
        assert_eq!(what, [Spoiler::Steal, Spoiler::Busy], "{found:?}");
        assert_eq!(
            CpuTimes::parse(STAT, &[1]).since(&times),
            CpuTimes::default()
        );
        assert_eq!(CpuTimes::default().findings(), []);
    }

    #[test]
    fn threads_that_have_to_share_are_told() {
        let pair = |client, worker, allowed, one_core| Pair {
            client,
            worker,
            allowed,
            one_core,
        };
        let what = |pair: Pair| placement(&pair).map(|it| it.what);
        assert_eq!(what(pair(0, 1, 2, false)), None);
        assert_eq!(what(pair(0, 0, 1, false)), Some(Spoiler::TooFewCpus));
        assert_eq!(what(pair(1, 1, 2, false)), Some(Spoiler::SharedCpu));
        assert_eq!(what(pair(0, 1, 2, true)), Some(Spoiler::SharedCore));
    }
}
