//! Which CPUs the server and the load generator run on.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Why CPUs could not be chosen.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The affinity of this process could not be read or kept.
    #[error("CPU {cpu}: {reason}; choose CPUs that `nproc` and `lscpu` show")]
    Unusable {
        /// The CPU's number.
        cpu: usize,
        /// What the kernel said.
        reason: Errno,
    },
    /// This process may not run on the CPU that was named.
    #[error("CPU {0}: not online or not allowed for this process; allowed are {1}")]
    NotAllowed(usize, String),
    /// A server that spins would starve the load generator.
    #[error("CPUs: only {0} usable, the server and fio need one each; run on a machine with 2")]
    TooFew(usize),
    /// The server and the load generator would fight for it.
    #[error("CPU {0}: named for the server and for fio; give each its own")]
    Shared(usize),
}

/// The CPUs of the two sides, never overlapping.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placement {
    /// CPUs that the server under test may use.
    pub server: Vec<usize>,
    /// CPUs that fio may use.
    pub fio: Vec<usize>,
}

impl Placement {
    /// Checks the CPUs that were asked for, and picks one for each side that was not told: fio the
    /// first CPU that is allowed, the server the next one on another core (another thread of the
    /// same core only where there is no other).
    ///
    /// # Errors
    /// A CPU that cannot be used, is named for both, or too few CPUs.
    pub fn choose(server: &[usize], fio: &[usize]) -> Result<Self, CpuError> {
        let allowed = allowed()?;
        for &cpu in server.iter().chain(fio) {
            if !allowed.contains(&cpu) {
                return Err(CpuError::NotAllowed(cpu, join(&allowed)));
            }
        }
        if let Some(&cpu) = server.iter().find(|cpu| fio.contains(cpu)) {
            return Err(CpuError::Shared(cpu));
        }
        let fio = pick(fio, &allowed, server)?;
        let server = pick(server, &allowed, &fio)?;
        Ok(Self { server, fio })
    }
}

/// The CPUs of a client and a worker in one process.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Pair {
    /// The client's.
    pub client: usize,
    /// The worker's.
    pub worker: usize,
    /// CPUs that this process may use.
    pub allowed: usize,
    /// The two are threads of one core.
    pub one_core: bool,
}

impl Pair {
    /// Picks a CPU for each side that was not told, as [`Placement::choose`] does. Both may get the same: whoever
    /// asks for that, or has no other, is told what it does to the figures.
    ///
    /// # Errors
    /// A CPU that cannot be used.
    pub fn choose(client: Option<usize>, worker: Option<usize>) -> Result<Self, CpuError> {
        let allowed = allowed()?;
        if let Some(cpu) = client
            .into_iter()
            .chain(worker)
            .find(|it| !allowed.contains(it))
        {
            return Err(CpuError::NotAllowed(cpu, join(&allowed)));
        }
        let one = |asked: Option<usize>, taken: Option<usize>| {
            let picked = pick(asked.as_slice(), &allowed, taken.as_slice());
            picked.ok().and_then(|cpus| cpus.first().copied()).or(taken)
        };
        let none = CpuError::TooFew(allowed.len());
        let client = one(client, worker).ok_or(none)?;
        let worker = one(worker, Some(client)).unwrap_or(client);
        Ok(Self {
            client,
            worker,
            allowed: allowed.len(),
            one_core: client != worker && siblings(client).contains(&worker),
        })
    }
}

fn pick(asked: &[usize], allowed: &[usize], taken: &[usize]) -> Result<Vec<usize>, CpuError> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let free = || allowed.iter().copied().filter(|cpu| !taken.contains(cpu));
    let near: Vec<usize> = taken.iter().flat_map(|&cpu| siblings(cpu)).collect();
    free()
        .find(|cpu| !near.contains(cpu))
        .or_else(|| free().next())
        .map(|cpu| vec![cpu])
        .ok_or(CpuError::TooFew(allowed.len()))
}

/// CPUs that share a core with `cpu`, itself included.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path)
        .map(|text| parse_list(&text))
        .unwrap_or_default()
}

/// Reads the kernel's list format, such as `0-3,8`; what is not a number is left out.
pub(crate) fn parse_list(text: &str) -> Vec<usize> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(part).flatten().collect()
}

fn allowed() -> Result<Vec<usize>, CpuError> {
    let set = sched_getaffinity(Pid::from_raw(0))
        .map_err(|reason| CpuError::Unusable { cpu: 0, reason })?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// The set that `sched_setaffinity` takes.
pub(crate) fn set(cpus: &[usize]) -> Result<CpuSet, CpuError> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu)
            .map_err(|reason| CpuError::Unusable { cpu, reason })?;
    }
    Ok(set)
}

/// Limits every thread that `process` has now to `cpus`.
///
/// # Errors
/// What the kernel says about the first thread that it does not move; one that has ended is none.
pub(crate) fn confine_threads(process: Pid, cpus: &[usize]) -> Result<(), CpuError> {
    let set = set(cpus)?;
    for task in fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(thread) = task.file_name().to_string_lossy().parse() else {
            continue;
        };
        match sched_setaffinity(Pid::from_raw(thread), &set) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(reason) => {
                let cpu = cpus.first().copied().unwrap_or_default();
                return Err(CpuError::Unusable { cpu, reason });
            }
        }
    }
    Ok(())
}

/// Comma-separated, as fio and `pollux serve --cpus` take it.
pub(crate) fn join(cpus: &[usize]) -> String {
    cpus.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(parse_list("5"), [5]);
        assert_eq!(parse_list("\n"), [0usize; 0]);
        assert_eq!(join(&[0, 1, 8]), "0,1,8");
    }

    #[test]
    fn each_side_gets_its_own_cpu() {
        assert_eq!(pick(&[], &[3, 4], &[]).unwrap(), [3]);
        assert_eq!(pick(&[], &[3, 4], &[3]).unwrap(), [4]);
        assert_eq!(pick(&[4], &[3, 4], &[3]).unwrap(), [4]);
        assert!(matches!(pick(&[], &[3], &[3]), Err(CpuError::TooFew(1))));
    }

    #[test]
    fn a_pair_takes_what_it_gets() {
        let allowed = allowed().unwrap();
        let pair = Pair::choose(None, None).unwrap();
        assert_eq!(pair.client != pair.worker, allowed.len() > 1, "{pair:?}");
        let last = allowed.last().copied();
        let both = Pair::choose(last, last).unwrap();
        assert_eq!((Some(both.client), Some(both.worker)), (last, last));
        assert!(!both.one_core);
        assert!(matches!(
            Pair::choose(None, Some(9999)),
            Err(CpuError::NotAllowed(9999, _))
        ));
    }

    #[test]
    fn unusable_and_shared_cpus_are_refused() {
        let here = allowed().unwrap()[0];
        assert!(matches!(
            Placement::choose(&[9999], &[]),
            Err(CpuError::NotAllowed(9999, _))
        ));
        assert!(matches!(
            Placement::choose(&[here], &[here]),
            Err(CpuError::Shared(_))
        ));
        assert!(matches!(set(&[1 << 20]), Err(CpuError::Unusable { .. })));
    }
}
