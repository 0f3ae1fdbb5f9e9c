//! CPUs: lists as fio and taskset write them, and which ones workers get.

/// Why a list of CPUs cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// Not numbers.
    #[error("cpus '{0}' is not a list of numbers and ranges: write for example 2,3 or 2-3")]
    Malformed(String),
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

/// Returns the CPUs that this process may run on.
pub(super) fn usable_cpus() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.into_iter().map(|core| core.id).collect()
}

/// Returns the CPUs that are online, whether or not this process may run on them.
pub(super) fn online_cpus() -> Vec<usize> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    parse_cpu_list(online.trim()).unwrap_or_else(|_| usable_cpus())
}

/// Checks that every one of `cpus` is among those `usable`.
pub(super) fn all_usable(cpus: &[usize], usable: &[usize]) -> Result<(), CpuListError> {
    if let Some(&cpu) = cpus.iter().find(|cpu| !usable.contains(cpu)) {
        let usable: Vec<String> = usable.iter().map(usize::to_string).collect();
        return Err(CpuListError::Unusable {
            cpu,
            usable: usable.join(","),
        });
    }
    Ok(())
}

/// Returns the CPU of each of `queues` workers: those `named`, or the last usable ones, since the first
/// have most of the host's other work.
pub(super) fn place(
    named: Option<&[usize]>,
    queues: u16,
    usable: &[usize],
) -> Result<Vec<usize>, CpuListError> {
    let count = usize::from(queues);
    let Some(named) = named else {
        let first = usable.len().saturating_sub(count);
        return Ok(usable[first..].to_vec());
    };
    all_usable(named, usable)?;
    if named.len() != count {
        return Err(CpuListError::Count {
            cpus: named.len(),
            queues,
        });
    }
    Ok(named.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn workers_get_what_was_named_or_the_last_cpus() {
        assert_eq!(place(None, 2, &[0, 1, 2, 3]), Ok(vec![2, 3]));
        assert_eq!(place(Some(&[1]), 1, &[0, 1]), Ok(vec![1]));
        let unusable = CpuListError::Unusable {
            cpu: 7,
            usable: "0,1".into(),
        };
        assert_eq!(place(Some(&[7]), 1, &[0, 1]), Err(unusable));
        assert_eq!(
            place(Some(&[1]), 2, &[0, 1]),
            Err(CpuListError::Count { cpus: 1, queues: 2 })
        );
    }
}
