//! On which CPUs a driver's interrupts are handled (`irq_cb_affinity`, since Linux 6.4).
//!
//! `virtio_vdpa` spreads them over the CPUs at each probe, before DRIVER_OK, so Pollux sets its own
//! then. On the worker's CPU the interrupt's work does not take time from those who submit, and
//! completions gather while it runs: the best of all placements that were measured.

use std::str::FromStr;

use tracing::warn;
use vduse::Name;
use vduse::sysfs::Sysfs;

use super::cpus::{CpuListError, parse_cpu_list};

/// Which CPUs handle interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterruptCpus {
    /// That of the queue's own worker.
    Worker,
    /// As the driver left it.
    Driver,
    /// All but those of the device's workers.
    Others,
    /// These.
    List(Vec<usize>),
}

impl FromStr for InterruptCpus {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        match text {
            "worker" => Ok(Self::Worker),
            "driver" => Ok(Self::Driver),
            "others" => Ok(Self::Others),
            list => parse_cpu_list(list).map(Self::List),
        }
    }
}

impl InterruptCpus {
    /// Returns the CPUs for queue `index`, whose interrupts the driver has put on `now`, of a device with
    /// workers on `workers`, out of those `online`; `None` to leave it as it is.
    fn choose(
        &self,
        index: usize,
        now: &[usize],
        workers: &[usize],
        online: &[usize],
    ) -> Option<Vec<usize>> {
        let others = |cpus: &[usize]| -> Vec<usize> {
            let other = |cpu: &&usize| !workers.contains(cpu);
            cpus.iter().filter(other).copied().collect()
        };
        let cpus = match self {
            Self::Driver => return None,
            Self::Worker => workers.get(index).map(|&cpu| vec![cpu]),
            // The driver's choice is near those who submit to the queue.
            Self::Others => Some(others(now)).filter(|cpus| !cpus.is_empty()),
            Self::List(cpus) => Some(cpus.clone()),
        };
        // An empty set would hang the kernel: it looks for an online CPU until it finds one.
        cpus.or_else(|| Some(others(online)))
            .filter(|cpus| !cpus.is_empty())
    }

    /// Applies the choice to queue `index` of the device `name`. A kernel that cannot is left as it is.
    pub(super) fn apply(&self, name: &Name, index: u32, workers: &[usize], online: &[usize]) {
        let sysfs = Sysfs::new(name);
        let applied = sysfs.irq_cb_affinity(index).and_then(|now| {
            match self.choose(index as usize, &now, workers, online) {
                Some(cpus) => sysfs.set_irq_cb_affinity(index, &cpus),
                None => Ok(()),
            }
        });
        if let Err(error) = applied {
            warn!(device = %name, "interrupts stay where they are: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_the_drivers_choice_without_the_workers() {
        let others: InterruptCpus = "others".parse().unwrap();
        let all = [0, 1, 2, 3];
        assert_eq!(others.choose(0, &all, &[2, 3], &all), Some(vec![0, 1]));
        assert_eq!(others.choose(0, &[1, 2], &[2, 3], &all), Some(vec![1]));
        // Nothing is left of the driver's choice, or nothing at all.
        assert_eq!(others.choose(0, &[2, 3], &[2, 3], &all), Some(vec![0, 1]));
        assert_eq!(others.choose(0, &[0], &[0, 1], &[0, 1]), None);
    }

    #[test]
    fn a_worker_handles_its_own_queue() {
        let worker: InterruptCpus = "worker".parse().unwrap();
        assert_eq!(
            worker.choose(1, &[0], &[2, 3], &[0, 1, 2, 3]),
            Some(vec![3])
        );
    }

    #[test]
    fn a_list_is_taken_as_it_is_and_the_driver_left_alone() {
        let list: InterruptCpus = "1,3".parse().unwrap();
        assert_eq!(list.choose(0, &[0], &[1], &[0, 1, 2, 3]), Some(vec![1, 3]));
        let driver: InterruptCpus = "driver".parse().unwrap();
        assert_eq!(driver.choose(0, &[0], &[1], &[0, 1]), None);
        assert!("none".parse::<InterruptCpus>().is_err());
    }
}
