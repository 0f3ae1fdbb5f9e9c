//! CPUs for workers that poll.

use super::Finding;
use super::host::{Host, count_in_list};

const FOLDER: &str = "/sys/devices/system/cpu";

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    vec![online(host), governor(host)]
}

fn online(host: &Host) -> Finding {
    const CHECK: &str = "online CPUs";
    match host
        .read(&format!("{FOLDER}/online"))
        .and_then(|list| count_in_list(&list))
    {
        Some(1) => Finding::warning(
            CHECK,
            "1: a worker that polls takes the CPU that the driver needs",
            "pollux serve --poll event",
        ),
        Some(count) => Finding::good(CHECK, format!("{count}")),
        None => Finding::warning(CHECK, "cannot be counted", "mount -t sysfs sysfs /sys"),
    }
}

fn governor(host: &Host) -> Finding {
    const CHECK: &str = "CPU frequency governor";
    let cpus = host.names(FOLDER, "cpu");
    let read = |cpu: &String| host.read(&format!("{FOLDER}/{cpu}/cpufreq/scaling_governor"));
    let mut governors: Vec<_> = cpus.iter().filter_map(read).collect();
    governors.sort();
    governors.dedup();
    if governors.iter().all(|governor| governor == "performance") {
        let detail = governors.first().map_or(
            "none; the frequency is not the kernel's to set",
            |_| "performance",
        );
        return Finding::good(CHECK, detail);
    }
    let detail = format!(
        "{}: latency rises while a CPU speeds up",
        governors.join(", ")
    );
    let remedy = format!("echo performance | tee {FOLDER}/cpu*/cpufreq/scaling_governor");
    Finding::warning(CHECK, detail, remedy)
}
