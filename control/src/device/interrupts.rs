//! On which CPUs a driver's interrupts are handled (`irq_cb_affinity`, since Linux 6.4).
//!
//! `virtio_vdpa` spreads them over all CPUs at each probe, so the workers' own CPUs are among them; the
//! work then takes the worker's time away. It sets them before DRIVER_OK, so Pollux sets its own then.

use std::str::FromStr;

use tracing::warn;
use vduse::Name;
use vduse::sysfs::Sysfs;

use super::cpus::{CpuListError, parse_cpu_list};

/// Which CPUs handle interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterruptCpus {
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
            "driver" => Ok(Self::Driver),
            "others" => Ok(Self::Others),
            list => parse_cpu_list(list).map(Self::List),
        }
    }
}

impl InterruptCpus {
    /// Returns the CPUs for a device with workers on `workers`, of those `online`; `None` to
    /// leave it as it is.
    fn choose(&self, workers: &[usize], online: &[usize]) -> Option<Vec<usize>> {
        let cpus = match self {
            Self::Driver => return None,
            Self::Others => online
                .iter()
                .filter(|cpu| !workers.contains(cpu))
                .copied()
                .collect(),
            Self::List(cpus) => cpus.clone(),
        };
        // An empty set would hang the kernel: it looks for an online CPU until it finds one.
        Some(cpus).filter(|cpus| !cpus.is_empty())
    }

    /// Applies the choice to queue `index` of the device `name`. A kernel that cannot is left as it is.
    pub(super) fn apply(&self, name: &Name, index: u32, workers: &[usize], online: &[usize]) {
        let Some(cpus) = self.choose(workers, online) else {
            return;
        };
        if let Err(error) = Sysfs::new(name).set_irq_cb_affinity(index, &cpus) {
            warn!(device = %name, "interrupts stay where they are: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_all_but_the_workers_or_nothing() {
        let others: InterruptCpus = "others".parse().unwrap();
        assert_eq!(others.choose(&[2, 3], &[0, 1, 2, 3]), Some(vec![0, 1]));
        assert_eq!(others.choose(&[0, 1], &[0, 1]), None);
        let list: InterruptCpus = "1,3".parse().unwrap();
        assert_eq!(list.choose(&[1], &[0, 1, 2, 3]), Some(vec![1, 3]));
        let driver: InterruptCpus = "driver".parse().unwrap();
        assert_eq!(driver.choose(&[1], &[0, 1]), None);
        assert!("none".parse::<InterruptCpus>().is_err());
    }
}
