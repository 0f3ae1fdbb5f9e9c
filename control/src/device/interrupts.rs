//! On which CPUs a driver's interrupts are handled (`irq_cb_affinity`, since Linux 6.4).
//!
//! `virtio_vdpa` spreads them over the CPUs at each probe, before DRIVER_OK, so Pollux sets its own
//! then. Where a driver keeps many requests outstanding, the worker's CPU measured best: the interrupt's
//! work takes no time from those who submit, and completions gather while it runs. Where it keeps few, that
//! only takes the worker from its ring, and the CPUs of those who wait are better.

use std::str::FromStr;

use tracing::warn;
use vduse::Name;
use vduse::sysfs::Sysfs;

use crate::sandbox::raised;

use super::cpus::{CpuListError, online_cpus, parse_cpu_list};

/// Which CPUs handle interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterruptCpus {
    /// That of the queue's own worker while the driver keeps many requests outstanding, else the others.
    Auto,
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
            "auto" => Ok(Self::Auto),
            "worker" => Ok(Self::Worker),
            "driver" => Ok(Self::Driver),
            "others" => Ok(Self::Others),
            list => parse_cpu_list(list).map(Self::List),
        }
    }
}

impl InterruptCpus {
    /// Returns the CPUs for queue `index`, whose interrupts the driver has put on `driver`, of a device with
    /// workers on `workers`, out of those `online`; `None` to leave it as it is.
    fn choose(
        &self,
        index: usize,
        is_deep: bool,
        driver: &[usize],
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
            Self::Auto if is_deep => workers.get(index).map(|&cpu| vec![cpu]),
            // The driver's choice is near those who submit to the queue.
            Self::Auto | Self::Others => Some(others(driver)).filter(|cpus| !cpus.is_empty()),
            Self::List(cpus) => Some(cpus.clone()),
        };
        // An empty set would hang the kernel: it looks for an online CPU until it finds one.
        cpus.or_else(|| Some(others(online)))
            .filter(|cpus| !cpus.is_empty())
    }
}

/// Requests that a driver keeps outstanding from which on it counts as deep, and below which it does not any
/// more.
const DEEP_FROM: u16 = 8;
const SHALLOW_BELOW: u16 = 4;

/// Where the interrupts of one queue are handled.
#[derive(Debug)]
pub(super) struct QueueInterrupts {
    index: usize,
    /// Where the driver put them.
    driver: Vec<usize>,
    is_deep: bool,
    /// Whether interrupts are ever held.
    is_held: bool,
}

impl QueueInterrupts {
    /// Places the interrupts of queue `index`, which its driver has just made ready, of the device `name` with
    /// workers on `workers`. A kernel that cannot is left as it is: `None`.
    pub(super) fn place(
        name: &Name,
        index: usize,
        wanted: &InterruptCpus,
        is_held: bool,
        workers: &[usize],
    ) -> Option<Self> {
        let driver = Sysfs::new(name).irq_cb_affinity(index as u32);
        let driver = driver
            .map_err(|error| warn!(device = %name, "interrupts stay where they are: {error}"))
            .ok()?;
        let placed = Self {
            index,
            driver,
            // Without holding interrupts a worker does not learn how deep its queue is.
            is_deep: !is_held,
            is_held,
        };
        placed.apply(name, wanted, workers);
        Some(placed)
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Follows the driver, which is seen to keep `depth` requests outstanding.
    pub(super) fn follow(
        &mut self,
        depth: u16,
        name: &Name,
        wanted: &InterruptCpus,
        workers: &[usize],
    ) {
        if !self.is_held {
            return;
        }
        let is_deep = depth
            >= if self.is_deep {
                SHALLOW_BELOW
            } else {
                DEEP_FROM
            };
        if *wanted == InterruptCpus::Auto && is_deep != self.is_deep {
            self.is_deep = is_deep;
            self.apply(name, wanted, workers);
        }
    }

    fn apply(&self, name: &Name, wanted: &InterruptCpus, workers: &[usize]) {
        let (driver, online) = (&self.driver, online_cpus());
        let chosen = wanted.choose(self.index, self.is_deep, driver, workers, &online);
        let Some(cpus) = chosen else { return };
        let sysfs = Sysfs::new(name);
        if let Err(error) = raised(|| sysfs.set_irq_cb_affinity(self.index as u32, &cpus)) {
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
        assert_eq!(
            others.choose(0, false, &all, &[2, 3], &all),
            Some(vec![0, 1])
        );
        assert_eq!(
            others.choose(0, false, &[1, 2], &[2, 3], &all),
            Some(vec![1])
        );
        // Nothing is left of the driver's choice, or nothing at all.
        assert_eq!(
            others.choose(0, false, &[2, 3], &[2, 3], &all),
            Some(vec![0, 1])
        );
        assert_eq!(others.choose(0, false, &[0], &[0, 1], &[0, 1]), None);
    }

    #[test]
    fn a_worker_handles_its_own_queue() {
        let worker: InterruptCpus = "worker".parse().unwrap();
        assert_eq!(
            worker.choose(1, false, &[0], &[2, 3], &[0, 1, 2, 3]),
            Some(vec![3])
        );
    }

    #[test]
    fn a_list_is_taken_as_it_is_and_the_driver_left_alone() {
        let list: InterruptCpus = "1,3".parse().unwrap();
        assert_eq!(
            list.choose(0, false, &[0], &[1], &[0, 1, 2, 3]),
            Some(vec![1, 3])
        );
        let driver: InterruptCpus = "driver".parse().unwrap();
        assert_eq!(driver.choose(0, false, &[0], &[1], &[0, 1]), None);
        assert!("none".parse::<InterruptCpus>().is_err());
    }

    #[test]
    fn a_deep_queue_is_handled_by_its_worker_and_a_shallow_one_by_others() {
        let auto: InterruptCpus = "auto".parse().unwrap();
        let all = [0, 1, 2, 3];
        assert_eq!(auto.choose(0, false, &all, &[2, 3], &all), Some(vec![0, 1]));
        assert_eq!(auto.choose(1, true, &all, &[2, 3], &all), Some(vec![3]));
    }

    #[test]
    fn between_deep_and_shallow_it_stays_as_it_is() {
        let name: Name = "no-such-device".parse().unwrap();
        let mut interrupts = QueueInterrupts {
            index: 0,
            driver: vec![0],
            is_deep: false,
            is_held: true,
        };
        let mut after = |depth| {
            interrupts.follow(depth, &name, &InterruptCpus::Auto, &[1]);
            interrupts.is_deep
        };
        let deep = [1, 7, 8, 32, 7, 4, 3, 7].map(&mut after);
        assert_eq!(deep, [false, false, true, true, true, true, false, false]);
    }
}
