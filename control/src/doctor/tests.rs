//! Whole examinations of hosts that are folders.

use super::*;
use std::fs;
use tempfile::TempDir;

const RELEASE: &str = "6.12.117+deb12-amd64";

/// A host with nothing wrong, for root.
struct Tree(TempDir);

impl Tree {
    fn good() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.put("proc/sys/kernel/osrelease", RELEASE);
        tree.put(
            "proc/self/status",
            "Name:\tpollux\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff",
        );
        tree.put(
            "proc/self/limits",
            "Max locked memory         unlimited  unlimited  bytes",
        );
        tree.put(
            "proc/meminfo",
            "HugePages_Total:      64\nHugePages_Free:       64\nHugepagesize:       2048 kB",
        );
        tree.put("etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm");
        for module in ["vduse", "virtio_vdpa", "vhost_vdpa"] {
            fs::create_dir_all(tree.0.path().join("sys/module").join(module)).unwrap();
        }
        tree.put("sys/module/virtio_blk/parameters/poll_queues", "1");
        tree.put("sys/devices/system/cpu/online", "0-3");
        tree.put("sys/devices/system/cpu/possible", "0-3");
        tree.put(
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "performance",
        );
        tree.put("dev/vduse/control", "");
        tree
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
    }

    fn examine(&self) -> Vec<Finding> {
        examine_host(&Host::at(self.0.path()))
    }

    /// The one finding that is not good.
    fn only_bad(&self) -> Finding {
        let mut bad = self.examine();
        bad.retain(|finding| finding.state != State::Good);
        assert_eq!(bad.len(), 1, "{bad:#?}");
        bad.remove(0)
    }

    fn remedy(&self, check: &str) -> String {
        let bad = self.only_bad();
        assert_eq!(bad.check, check);
        bad.remedy.unwrap()
    }
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    let findings = Tree::good().examine();
    assert!(
        findings.iter().all(|finding| finding.state == State::Good),
        "{findings:#?}"
    );
    assert!(findings.len() >= 14);
}

#[test]
fn an_empty_host_lacks_everything_and_each_has_a_remedy() {
    let tree = Tree(tempfile::tempdir().unwrap());
    let findings = tree.examine();
    let missing = findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .count();
    assert!(missing >= 5, "{findings:#?}");
    for finding in findings
        .iter()
        .filter(|finding| finding.state != State::Good)
    {
        assert!(finding.remedy.is_some(), "{finding:?}");
    }
}

#[test]
fn a_module_is_loaded_loadable_built_in_or_unavailable() {
    let tree = Tree::good();
    tree.remove("sys/module/virtio_vdpa");
    let bad = tree.only_bad();
    assert_eq!(
        (bad.check, bad.state),
        ("module virtio_vdpa", State::Missing)
    );
    assert!(bad.remedy.unwrap().contains("linux-image-6.12"));
    let modules = format!("lib/modules/{RELEASE}");
    tree.put(
        &format!("{modules}/modules.dep"),
        "kernel/drivers/virtio/virtio_vdpa.ko.xz: kernel/drivers/vdpa/vdpa.ko.xz",
    );
    assert_eq!(tree.remedy("module virtio_vdpa"), "modprobe virtio_vdpa");
    tree.put(
        &format!("{modules}/modules.builtin"),
        "kernel/drivers/virtio/virtio_vdpa.ko",
    );
    assert!(
        tree.examine()
            .iter()
            .all(|finding| finding.state == State::Good)
    );
}

#[test]
fn poll_queues_are_set_the_way_the_host_allows() {
    let tree = Tree::good();
    tree.put("sys/module/virtio_blk/parameters/poll_queues", "0");
    assert!(
        tree.remedy("virtio_blk.poll_queues")
            .starts_with("modprobe -r virtio_blk")
    );
    tree.put("sys/block/vda/size", "1");
    assert!(
        tree.remedy("virtio_blk.poll_queues")
            .contains("/etc/modprobe.d")
    );
    tree.put(
        &format!("lib/modules/{RELEASE}/modules.builtin"),
        "kernel/drivers/block/virtio_blk.ko",
    );
    assert!(
        tree.remedy("virtio_blk.poll_queues")
            .contains("kernel command line")
    );
}

#[test]
fn a_missing_control_node_asks_for_the_module() {
    let tree = Tree::good();
    tree.remove("dev/vduse/control");
    assert_eq!(tree.remedy("/dev/vduse/control"), "modprobe vduse");
}

#[test]
fn an_ordinary_user_lacks_root_and_capabilities() {
    let tree = Tree::good();
    tree.put(
        "proc/self/status",
        "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000",
    );
    let findings = tree.examine();
    let state = |check| {
        findings
            .iter()
            .find(|finding| finding.check == check)
            .unwrap()
            .state
    };
    assert_eq!(state("user"), State::Missing);
    assert_eq!(state("CAP_NET_ADMIN"), State::Missing);
    assert_eq!(
        (state("CAP_SYS_NICE"), state("CAP_IPC_LOCK")),
        (State::Warning, State::Warning)
    );
    for root_or_kept in [
        "Uid:\t0\t0\t0\t0\nCapEff:\t0000000000801000",
        "Uid:\t990\t990\t990\t990\nCapEff:\t0000000000801002",
    ] {
        tree.put("proc/self/status", root_or_kept);
        assert_eq!(tree.only_bad().check, "CAP_IPC_LOCK");
    }
}

#[test]
fn an_old_stable_kernel_is_told_its_bugs() {
    let tree = Tree::good();
    tree.put("proc/sys/kernel/osrelease", "6.12.113+deb12-amd64");
    let findings = tree.examine();
    let bugs: Vec<_> = findings
        .iter()
        .filter(|f| f.check.starts_with("bug:"))
        .collect();
    assert_eq!(bugs.len(), 2, "{bugs:#?}");
    assert!(
        bugs.iter()
            .all(|bug| bug.remedy.as_ref().unwrap().contains("6.12.114"))
    );
    tree.put("proc/sys/kernel/osrelease", "5.10.0");
    assert_eq!(tree.only_bad().check, "kernel version");
}

#[test]
fn offline_cpus_limit_the_queues() {
    let tree = Tree::good();
    tree.put("sys/devices/system/cpu/possible", "0-63");
    assert!(
        tree.remedy("bug: interrupt for offline CPUs")
            .contains("--queues 4")
    );
}

#[test]
fn one_cpu_is_too_few_to_poll() {
    let tree = Tree::good();
    tree.put("sys/devices/system/cpu/online", "0");
    tree.put("sys/devices/system/cpu/possible", "0");
    assert_eq!(tree.remedy("online CPUs"), "pollux serve --poll event");
}

#[test]
fn a_saving_governor_is_named() {
    let tree = Tree::good();
    tree.put(
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "schedutil",
    );
    let bad = tree.only_bad();
    assert!(bad.detail.contains("schedutil") && bad.remedy.unwrap().contains("performance"));
}

#[test]
fn small_limits_and_few_huge_pages_are_raised_by_what_lacks() {
    let tree = Tree::good();
    tree.put(
        "proc/self/limits",
        "Max locked memory         8388608  8388608  bytes",
    );
    // The daemon raises it.
    assert!(tree.examine().iter().all(|it| it.state == State::Good));
    tree.put(
        "proc/self/status",
        "Uid:\t0\t0\t0\t0\nCapEff:\t000001fffeffffff",
    );
    assert!(tree.remedy("RLIMIT_MEMLOCK").starts_with("ulimit -l"));
    let tree = Tree::good();
    tree.put(
        "proc/meminfo",
        "HugePages_Total:      10\nHugePages_Free:       4\nHugepagesize:       2048 kB",
    );
    assert_eq!(tree.remedy("huge pages"), "sysctl vm.nr_hugepages=38");
}

#[test]
fn a_finding_is_plain_json() {
    let finding = Finding::warning("check", "detail", "remedy");
    let json = serde_json::to_value(finding).unwrap();
    let expected = serde_json::json!({
        "check": "check", "state": "warning", "detail": "detail", "remedy": "remedy"
    });
    assert_eq!(json, expected);
}
