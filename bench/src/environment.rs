//! The machine that a result was taken on.

use std::collections::BTreeMap;
use std::fs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::revision::Build;
use crate::{cpus, fio, server};

/// What a number depends on besides the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Kernel release.
    pub kernel: String,
    /// CPU model as the kernel names it.
    pub cpu_model: String,
    /// CPUs that are online.
    pub cpus_online: usize,
    /// The hypervisor's signature (`KVMKVMKVM`, `TCGTCGTCGTCG`, ...); none on bare metal.
    pub hypervisor: Option<String>,
    /// The kernel is user-mode Linux, a process: programs have the machine's speed, system calls take microseconds.
    #[serde(default)]
    pub user_mode_linux: bool,
    /// How the clock speed of CPU 0 is chosen (`performance`, `schedutil`, ...); none where the kernel does not choose.
    pub governor: Option<String>,
    /// Holes of the CPU, and what the kernel does about each.
    #[serde(default)]
    pub mitigations: BTreeMap<String, String>,
    /// Version of this program.
    pub pollux: String,
    /// What it was built from.
    #[serde(default)]
    pub build: Build,
    /// fio's version line.
    pub fio: Option<String>,
    /// qemu-storage-daemon's version line.
    pub qemu_storage_daemon: Option<String>,
    /// rublk's version line.
    pub rublk: Option<String>,
}

impl Environment {
    /// Looks at this machine. What cannot be found out is "unknown" or none.
    pub fn look() -> Self {
        let cpu_model = cpu_model(&read("/proc/cpuinfo"));
        let user_mode_linux = cpu_model == UML;
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu_model: brand().filter(|_| user_mode_linux).unwrap_or(cpu_model),
            user_mode_linux,
            cpus_online: cpus::parse_list(&read("/sys/devices/system/cpu/online")).len(),
            hypervisor: hypervisor(),
            governor: governor(),
            mitigations: mitigations(),
            pollux: env!("CARGO_PKG_VERSION").to_owned(),
            build: Build::of_this(),
            fio: fio::version(),
            qemu_storage_daemon: server::qemu_version(),
            rublk: server::rublk_version(),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let machine = match self.hypervisor.as_deref() {
            None => "bare metal".to_owned(),
            Some(signature) if signature.starts_with("TCG") => {
                "emulated virtual machine (QEMU TCG: compare ratios only)".to_owned()
            }
            Some(signature) => format!("virtual machine ({signature})"),
        };
        let machine = match self.user_mode_linux {
            true => format!("user-mode Linux, {machine}"),
            false => machine,
        };
        format!(
            "Linux {}, {} x {}, {machine}",
            self.kernel, self.cpus_online, self.cpu_model
        )
    }
}

/// What user-mode Linux calls its CPUs.
const UML: &str = "UML";

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Returns the governor of CPU 0, if there is one.
pub(crate) fn governor() -> Option<String> {
    let path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn mitigations() -> BTreeMap<String, String> {
    let files = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let files = files.into_iter().flatten().flatten();
    let named = files.map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, read(&file.path().to_string_lossy()))
    });
    named.collect()
}

fn cpu_model(cpuinfo: &str) -> String {
    let value = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    };
    cpuinfo
        .lines()
        .find_map(value)
        .unwrap_or_else(|| "unknown CPU".to_owned())
}

/// The CPU's name for itself, CPUID leaves 0x80000002 to 0x80000004.
#[cfg(target_arch = "x86_64")]
fn brand() -> Option<String> {
    use std::arch::x86_64::__cpuid;

    const LAST: u32 = 0x8000_0004;
    if __cpuid(0x8000_0000).eax < LAST {
        return None;
    }
    let leaves = (LAST - 2..=LAST).map(__cpuid);
    let registers = leaves.flat_map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
    let name: String = registers
        .flat_map(u32::to_le_bytes)
        .map(char::from)
        .collect();
    Some(name.trim_matches(['\0', ' ']).to_owned())
}

/// Elsewhere a CPU has no name for itself.
#[cfg(not(target_arch = "x86_64"))]
fn brand() -> Option<String> {
    None
}

/// CPUID leaf 0x40000000, where the CPU says that there is a hypervisor.
#[cfg(target_arch = "x86_64")]
pub(crate) fn hypervisor() -> Option<String> {
    use std::arch::x86_64::__cpuid;

    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR_PRESENT == 0 {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    let signature: String = [leaf.ebx, leaf.ecx, leaf.edx]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .filter(u8::is_ascii_graphic)
        .map(char::from)
        .collect();
    Some(if signature.is_empty() {
        "unknown".to_owned()
    } else {
        signature
    })
}

/// Elsewhere a virtual machine shows by its firmware's device tree only.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn hypervisor() -> Option<String> {
    let compatible = fs::read_to_string("/proc/device-tree/hypervisor/compatible").ok()?;
    Some(compatible.trim_matches(['\0', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::look();
        assert!(environment.cpus_online >= 1);
        assert!(environment.kernel.contains('.'), "{environment:?}");
        assert!(environment.line().starts_with("Linux "));
    }

    #[test]
    fn the_model_is_read_and_emulation_is_told() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Some CPU\n"),
            "Some CPU"
        );
        assert_eq!(cpu_model(""), "unknown CPU");
        let mut environment = Environment::look();
        environment.hypervisor = Some("TCGTCGTCGTCG".to_owned());
        assert!(environment.line().contains("emulated"));
        environment.hypervisor = None;
        assert!(environment.line().contains("bare metal"));
    }
}
