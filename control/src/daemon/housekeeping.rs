//! Where threads run that serve no queue: on the CPUs without workers, as far as there are any, so that neither a client of the
//! API nor a message of the kernel takes time from a worker that polls.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::device::usable_cpus;

/// Keeps this thread, those that it starts from now on, and the thread `other` off the CPUs of `workers`. Where these have all
/// CPUs it may be on any.
pub(super) fn keep_off(workers: &[usize], other: Option<Pid>) {
    let cpus = without(usable_cpus(), workers);
    for thread in [Some(Pid::from_raw(0)), other].into_iter().flatten() {
        if let Err(reason) = set(thread, &cpus) {
            tracing::warn!("a thread stays on the CPUs of workers: {reason}");
        }
    }
}

/// Returns the CPUs `usable` that have none of `workers`; all if each has one.
fn without(usable: &[usize], workers: &[usize]) -> Vec<usize> {
    let rest = usable.iter().filter(|cpu| !workers.contains(cpu));
    let rest: Vec<usize> = rest.copied().collect();
    match rest.is_empty() {
        true => usable.to_vec(),
        false => rest,
    }
}

fn set(thread: Pid, cpus: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
    sched_setaffinity(thread, &set)
}

#[cfg(test)]
mod tests {
    use nix::sched::sched_getaffinity;

    use super::*;

    #[test]
    fn the_rest_of_the_cpus_or_all() {
        assert_eq!(without(&[0, 1, 2, 3], &[3, 1, 3]), [0, 2]);
        assert_eq!(without(&[0, 1], &[]), [0, 1]);
        assert_eq!(without(&[0, 1], &[1, 0]), [0, 1]);
    }

    #[test]
    fn this_thread_and_those_after_it_leave_a_workers_cpu() {
        let usable = usable_cpus();
        assert!(usable.len() > 1, "there has to be a CPU without a worker");
        let worker = usable[0];
        let is_on = move || {
            let set = sched_getaffinity(Pid::from_raw(0)).unwrap();
            set.is_set(worker).unwrap()
        };
        let both = move || (is_on(), std::thread::spawn(is_on).join().unwrap());
        let thread = std::thread::spawn(move || {
            keep_off(&[worker], None);
            let off = both();
            keep_off(&[], None);
            (off, both())
        });
        assert_eq!(thread.join().unwrap(), ((false, false), (true, true)));
    }
}
