//! What CPUs share: hardware threads their core, cores their node's memory.

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string};
use std::path::Path;
use std::sync::LazyLock;

use super::cpus::{online_cpus, parse_cpu_list};

/// Where the kernel shows its CPUs (Documentation/ABI/stable/sysfs-devices-system-cpu).
const FOLDER: &str = "/sys/devices/system/cpu";

/// The core and the node of each CPU, as far as the kernel tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Topology {
    cores: BTreeMap<usize, usize>,
    nodes: BTreeMap<usize, usize>,
}

impl Topology {
    /// Returns that of this machine, which is read once.
    pub(super) fn of_machine() -> &'static Self {
        static MACHINE: LazyLock<Topology> =
            LazyLock::new(|| Topology::read_at(Path::new(FOLDER), &online_cpus()));
        &MACHINE
    }

    fn read_at(folder: &Path, cpus: &[usize]) -> Self {
        let mut topology = Self::default();
        for &cpu in cpus {
            let folder = folder.join(format!("cpu{cpu}"));
            let siblings = read_to_string(folder.join("topology/thread_siblings_list"));
            let siblings = siblings.ok().and_then(|it| parse_cpu_list(it.trim()).ok());
            let core = siblings.and_then(|cpus| cpus.into_iter().min());
            topology.cores.extend(core.map(|core| (cpu, core)));
            topology.nodes.extend(node(&folder).map(|node| (cpu, node)));
        }
        topology
    }

    /// Returns the first CPU of the core that `cpu` is a thread of.
    pub(super) fn core(&self, cpu: usize) -> usize {
        self.cores.get(&cpu).copied().unwrap_or(cpu)
    }

    /// Returns the node of `cpu`.
    pub(super) fn node(&self, cpu: usize) -> usize {
        self.nodes.get(&cpu).copied().unwrap_or_default()
    }
}

/// Returns the node of the CPU that `folder` is of: a link there is named after it.
fn node(folder: &Path) -> Option<usize> {
    let names = read_dir(folder).ok()?.filter_map(|entry| entry.ok());
    names.map(|entry| entry.file_name()).find_map(|name| {
        let number = name.to_str()?.strip_prefix("node")?;
        number.parse().ok()
    })
}

#[cfg(test)]
pub(super) fn two_nodes_of_two_cores_of_two_threads() -> Topology {
    Topology {
        cores: (0..8).map(|cpu| (cpu, cpu % 4)).collect(),
        nodes: (0..8).map(|cpu| (cpu, cpu % 4 / 2)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_the_kernel_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        for (cpu, siblings, node) in [(0, "0,2\n", "node0"), (1, "1,3\n", "node1")] {
            let cpu = folder.path().join(format!("cpu{cpu}"));
            std::fs::create_dir_all(cpu.join("topology")).unwrap();
            std::fs::create_dir(cpu.join(node)).unwrap();
            std::fs::write(cpu.join("topology/thread_siblings_list"), siblings).unwrap();
        }
        let topology = Topology::read_at(folder.path(), &[0, 1, 5]);
        assert_eq!([0, 1, 5].map(|cpu| topology.core(cpu)), [0, 1, 5]);
        assert_eq!([0, 1, 5].map(|cpu| topology.node(cpu)), [0, 1, 0]);
    }
}
