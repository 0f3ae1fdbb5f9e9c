//! Memory that can be pinned and huge pages.

use super::Finding;
use super::host::Host;
use super::privileges::{CAP_SYS_RESOURCE, holds};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// The kernel's default size of a device's bounce region.
const BOUNCE_SIZE: u64 = 64 * MIB;

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    vec![memlock(host), hugepages(host)]
}

/// Registered memory (`VDUSE_IOTLB_REG_UMEM`) counts against the limit, for root too.
fn memlock(host: &Host) -> Finding {
    const CHECK: &str = "RLIMIT_MEMLOCK";
    const REMEDY: &str = "ulimit -l unlimited (in a unit file: LimitMEMLOCK=infinity)";
    let limits = host.read("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => Finding::good(CHECK, "unlimited"),
        Some(bytes) => match bytes.parse::<u64>() {
            Ok(bytes) if bytes >= BOUNCE_SIZE => {
                Finding::good(CHECK, format!("{} MiB", bytes / MIB))
            }
            Ok(bytes) if holds(host, CAP_SYS_RESOURCE) => {
                let detail = format!("{} KiB, which pollux serve raises", bytes / KIB);
                Finding::good(CHECK, detail)
            }
            Ok(bytes) => {
                let detail = format!(
                    "{} KiB: the {} MiB of a device's bounce region cannot be registered",
                    bytes / KIB,
                    BOUNCE_SIZE / MIB
                );
                Finding::warning(CHECK, detail, REMEDY)
            }
            Err(_) => Finding::warning(CHECK, format!("{bytes:?} is not understood"), REMEDY),
        },
        None => Finding::warning(CHECK, "cannot be read", REMEDY),
    }
}

fn hugepages(host: &Host) -> Finding {
    const CHECK: &str = "huge pages";
    let number = |key| {
        let value = host.field("/proc/meminfo", key)?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (Some(free), Some(size_kib)) = (number("HugePages_Free"), number("Hugepagesize")) else {
        let detail = "this kernel has none; ram devices use small pages";
        return Finding::warning(CHECK, detail, "boot a kernel with CONFIG_HUGETLBFS=y");
    };
    let size = size_kib * KIB;
    let detail = format!("{free} free of {} MiB each", size / MIB);
    if free * size >= BOUNCE_SIZE {
        return Finding::good(CHECK, detail);
    }
    let total = number("HugePages_Total").unwrap_or(0);
    let wanted = total - free.min(total) + BOUNCE_SIZE.div_ceil(size);
    let detail = format!("{detail}: too few for one device's bounce region");
    Finding::warning(CHECK, detail, format!("sysctl vm.nr_hugepages={wanted}"))
}
