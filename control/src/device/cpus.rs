//! CPUs: lists as fio and taskset write them, and which ones workers get.

use std::cmp::Reverse;
use std::sync::OnceLock;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::topology::Topology;

/// Why a list of CPUs cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// Not numbers.
    #[error("cpus '{0}' is not a list of numbers and ranges: write for example 2,3 or 2-3")]
    Malformed(String),
    /// There are none.
    #[error("no CPU is allowed to this process: widen its CPU set")]
    None,
    /// Named twice.
    #[error("CPU {0} is named twice: each worker polls on a CPU of its own")]
    Twice(usize),
    /// Offline, absent or forbidden.
    #[error("CPU {cpu} does not exist or is not allowed here: use some of {usable}")]
    Unusable {
        /// The CPU.
        cpu: usize,
        /// Those that are.
        usable: String,
    },
    /// Not one a queue.
    #[error("{cpus} CPUs for {queues} queues: name one a queue, or leave --cpus out")]
    Count {
        /// CPUs named.
        cpus: usize,
        /// Queues.
        queues: u16,
    },
}

/// Returns the CPUs in `text`, such as `0,2-3`, in order.
///
/// # Errors
///
/// [`CpuListError`] when it is malformed or names a CPU twice.
pub fn parse_cpu_list(text: &str) -> Result<Vec<usize>, CpuListError> {
    let malformed = || CpuListError::Malformed(text.into());
    let number = |word: &str| word.trim().parse::<usize>().map_err(|_| malformed());
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > 4096 {
            return Err(malformed());
        }
        cpus.extend(first..=last);
    }
    let mut seen = std::collections::BTreeSet::new();
    match cpus.iter().find(|&&cpu| !seen.insert(cpu)) {
        Some(&cpu) => Err(CpuListError::Twice(cpu)),
        None => Ok(cpus),
    }
}

/// Returns the CPUs that this process was started on. Its threads are on some of them.
pub(crate) fn usable_cpus() -> &'static [usize] {
    static USABLE: OnceLock<Vec<usize>> = OnceLock::new();
    USABLE.get_or_init(|| {
        let ids = core_affinity::get_core_ids().unwrap_or_default();
        ids.into_iter().map(|core| core.id).collect()
    })
}

/// Returns the CPUs that are online, whether or not this process may run on them.
pub(super) fn online_cpus() -> Vec<usize> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    parse_cpu_list(online.trim()).unwrap_or_else(|_| usable_cpus().to_vec())
}

/// The CPUs of this host.
#[derive(Debug)]
pub(super) struct HostCpus {
    /// All that are online.
    pub(super) online: Vec<usize>,
    /// Of these those of this process's cpuset (cpuset(7)): its threads run there if they are told to.
    pub(super) allowed: Vec<usize>,
    /// Of these those that its threads run on unasked, since it was started there: isolcpus= and taskset(1) leave others out.
    pub(super) usable: &'static [usize],
}

impl HostCpus {
    pub(super) fn look() -> Self {
        let (online, usable) = (online_cpus(), usable_cpus());
        // Of another thread, since nothing gives this one back what it was told before.
        let ask = std::thread::scope(|scope| scope.spawn(|| of_cpuset(&online)).join());
        let allowed = ask.ok().and_then(Result::ok);
        Self {
            allowed: allowed.unwrap_or_else(|| usable.to_vec()),
            online,
            usable,
        }
    }
}

/// Returns which of the CPUs `online` the kernel lets this thread run on when it is told to run on all: it leaves others out.
fn of_cpuset(online: &[usize]) -> nix::Result<Vec<usize>> {
    let thread = Pid::from_raw(0);
    let mut all = CpuSet::new();
    online.iter().try_for_each(|cpu| all.set(*cpu))?;
    sched_setaffinity(thread, &all)?;
    let allowed = sched_getaffinity(thread)?;
    let is_in = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
    Ok(online.iter().copied().filter(is_in).collect())
}

/// Checks that every one of `cpus` is among those `allowed`.
pub(super) fn all_usable(cpus: &[usize], allowed: &[usize]) -> Result<(), CpuListError> {
    if let Some(&cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        let usable: Vec<String> = allowed.iter().map(usize::to_string).collect();
        return Err(CpuListError::Unusable {
            cpu,
            usable: usable.join(","),
        });
    }
    Ok(())
}

/// Returns the CPU of each of `queues` workers: those `named`, or else usable ones with as few as possible of the workers that
/// are on those `taken`. Of these a core without any is before a hardware thread beside one, the node of the first queue before
/// others, and the last CPUs before the first, which have most of the host's other work.
pub(super) fn place(
    named: Option<&[usize]>,
    queues: u16,
    host: &HostCpus,
    taken: &[usize],
    topology: &Topology,
) -> Result<Vec<usize>, CpuListError> {
    let count = usize::from(queues);
    if let Some(named) = named {
        all_usable(named, &host.allowed)?;
        if named.len() != count {
            return Err(CpuListError::Count {
                cpus: named.len(),
                queues,
            });
        }
        return Ok(named.to_vec());
    }
    let mut workers = taken.to_vec();
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    for _ in 0..count {
        let rank = |&&cpu: &&usize| {
            let core = topology.core(cpu);
            let on_core = workers.iter().filter(|&&it| topology.core(it) == core);
            let on_cpu = workers.iter().filter(|&&it| it == cpu);
            let is_far = chosen.first().map(|&it| topology.node(it)) != Some(topology.node(cpu));
            (on_cpu.count(), on_core.count(), is_far, Reverse(cpu))
        };
        let best = host.usable.iter().min_by_key(rank).copied();
        let best = best.ok_or(CpuListError::None)?;
        workers.push(best);
        chosen.push(best);
    }
    chosen.sort_unstable();
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::super::topology::two_nodes_of_two_cores_of_two_threads;
    use super::*;

    /// Four CPUs, of which this process was started on some and may be on three.
    fn host(usable: &'static [usize]) -> HostCpus {
        HostCpus {
            online: vec![0, 1, 2, 3],
            allowed: vec![0, 1, 2],
            usable,
        }
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(parse_cpu_list("0,2-4"), Ok(vec![0, 2, 3, 4]));
        for bad in ["", "a", "3-1", "1,", "-1", "1-9999999"] {
            assert_eq!(
                parse_cpu_list(bad),
                Err(CpuListError::Malformed(bad.into()))
            );
        }
        assert_eq!(parse_cpu_list("1,0-1"), Err(CpuListError::Twice(1)));
    }

    #[test]
    fn workers_get_what_was_named() {
        let place = |named: &[usize], queues| {
            place(
                Some(named),
                queues,
                &host(&[0, 1]),
                &[1],
                &Topology::default(),
            )
        };
        assert_eq!(place(&[1], 1), Ok(vec![1]));
        // As with isolcpus=2.
        assert_eq!(place(&[2], 1), Ok(vec![2]));
        let unusable = CpuListError::Unusable {
            cpu: 3,
            usable: "0,1,2".into(),
        };
        assert_eq!(place(&[3], 1), Err(unusable));
        assert_eq!(
            place(&[1], 2),
            Err(CpuListError::Count { cpus: 1, queues: 2 })
        );
    }

    #[test]
    fn workers_get_the_last_cpus_that_have_the_fewest() {
        let flat = Topology::default();
        let place =
            |queues, taken: &[usize]| place(None, queues, &host(&[0, 1, 2, 3]), taken, &flat);
        assert_eq!(place(2, &[]), Ok(vec![2, 3]));
        assert_eq!(place(1, &[3]), Ok(vec![2]));
        assert_eq!(place(2, &[3, 2, 1]), Ok(vec![0, 3]));
        // A process may be kept to fewer CPUs than are online.
        assert_eq!(place(6, &[]), Ok(vec![0, 1, 2, 2, 3, 3]));
    }

    #[test]
    fn workers_get_a_core_of_their_own_and_one_node_while_there_are_any() {
        // CPUs n and n + 4 are threads of one core; cores 0 and 1 are one node, 2 and 3 the other.
        let topology = two_nodes_of_two_cores_of_two_threads();
        let host = host(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let place = |queues, taken: &[usize]| place(None, queues, &host, taken, &topology);
        assert_eq!(place(2, &[]), Ok(vec![6, 7]));
        assert_eq!(place(2, &[7]), Ok(vec![5, 6]));
        assert_eq!(place(2, &[6, 7]), Ok(vec![4, 5]));
        assert_eq!(place(4, &[]), Ok(vec![4, 5, 6, 7]));
        assert_eq!(place(5, &[]), Ok(vec![3, 4, 5, 6, 7]));
    }
}
