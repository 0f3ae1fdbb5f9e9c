//! The kernel's version against the bugs that are known in VDUSE.

use super::host::{Host, count_in_list};
use super::version::Version;
use super::{Finding, State};

/// VDUSE came with this release.
const FIRST: Version = Version::new(5, 15, 0);

/// A bug and the releases that do not have it.
struct Bug {
    check: &'static str,
    harm: &'static str,
    /// The first release that has it.
    since: Version,
    /// The releases that mend it: mainline first, then stable series.
    mended: &'static [Version],
}

/// Sources: the changelogs of the stable releases and of Debian's kernels.
const BUGS: [Bug; 8] = [
    Bug {
        check: "bug: use after free at open (CVE-2026-74313)",
        harm: "opening a device while another process destroys it corrupts kernel memory",
        since: FIRST,
        mended: &[
            Version::new(7, 1, 5),
            Version::new(6, 12, 97),
            Version::new(6, 1, 180),
        ],
    },
    Bug {
        check: "bug: message race",
        harm: "a message that times out just when it is read crashes the kernel",
        since: FIRST,
        mended: &[
            Version::new(7, 2, 0),
            Version::new(6, 12, 97),
            Version::new(6, 1, 180),
        ],
    },
    Bug {
        check: "bug: kernel memory shown (CVE-2026-72305)",
        harm: "bounce and ring pages show old kernel memory to the daemon",
        since: FIRST,
        mended: &[
            Version::new(7, 2, 0),
            Version::new(6, 12, 101),
            Version::new(6, 1, 187),
        ],
    },
    Bug {
        check: "bug: unbounded IOTLB (CVE-2026-74713)",
        harm: "a vhost-vdpa client can make the kernel allocate without bound",
        since: FIRST,
        mended: &[
            Version::new(7, 3, 0),
            Version::new(6, 12, 114),
            Version::new(6, 1, 192),
        ],
    },
    Bug {
        check: "bug: ring alignment (CVE-2026-97989)",
        harm: "whoever may use /dev/vduse/control can harm the kernel with a bad ring alignment",
        since: FIRST,
        mended: &[Version::new(7, 3, 0), Version::new(6, 12, 114)],
    },
    Bug {
        check: "bug: interrupt injection lock",
        harm: "an injected interrupt can deadlock with one that arrives on the same CPU",
        since: FIRST,
        // 6.1: the first release that certainly has it.
        mended: &[
            Version::new(6, 5, 0),
            Version::new(6, 4, 12),
            Version::new(6, 1, 50),
            Version::new(5, 15, 128),
        ],
    },
    Bug {
        check: "bug: configuration space leak (CVE-2022-2308)",
        harm: "the driver reads old kernel memory behind a short configuration space",
        since: FIRST,
        mended: &[Version::new(6, 0, 0)],
    },
    Bug {
        check: "bug: sysfs crash (CVE-2022-49329)",
        harm: "reading the control device's files in sysfs crashes the kernel",
        since: FIRST,
        mended: &[Version::new(5, 18, 4)],
    },
];

/// Since this release a detach and a new attach of the same device lose the old bounce pages.
const REATTACH_LEAK: Version = Version::new(7, 0, 0);
/// Since this release interrupts are given to the CPUs of a mask in turn.
const IRQ_AFFINITY: Version = Version::new(6, 4, 0);

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    let release = host.release();
    let Some(version) = host.version() else {
        let detail = format!("release {release:?} is not understood");
        return vec![Finding::warning(
            "kernel version",
            detail,
            "look at: uname -r",
        )];
    };
    if version < FIRST {
        let detail = format!("{version} is older than {FIRST}, which brought VDUSE");
        return vec![Finding::missing(
            "kernel version",
            detail,
            host.kernel_remedy(),
        )];
    }
    let bugs = BUGS.iter().filter_map(|bug| finding(bug, version));
    let others = [
        first_candidate(&release),
        reattach(version),
        offline_cpus(host, version),
    ];
    let bugs: Vec<_> = bugs.chain(others.into_iter().flatten()).collect();
    let known = if bugs.is_empty() {
        "no known VDUSE bug"
    } else {
        "known VDUSE bugs follow"
    };
    let mut findings = vec![Finding::good(
        "kernel version",
        format!("{version}: {known}"),
    )];
    findings.extend(bugs);
    findings
}

/// The bug, if this version has it or may have it.
fn finding(bug: &Bug, version: Version) -> Option<Finding> {
    let (mainline, stable) = bug.mended.split_first()?;
    let series = stable.iter().find(|mended| mended.same_series(version));
    if version < bug.since || version >= *mainline || series.is_some_and(|s| version >= *s) {
        return None;
    }
    let target = series.unwrap_or(mainline);
    let mut detail = format!("{version} is older than {target}: {}", bug.harm);
    if series.is_none() {
        detail.push_str(", unless this series' maintainers took the fix over");
    }
    let remedy = format!("upgrade to Linux {target} or newer, and reboot");
    Some(Finding::warning(bug.check, detail, remedy))
}

fn first_candidate(release: &str) -> Option<Finding> {
    release.starts_with("7.3.0-rc1").then(|| Finding {
        state: State::Missing,
        ..Finding::warning(
            "bug: kick sleeps (7.3-rc1)",
            "the driver sleeps in atomic context at each kick",
            "upgrade to Linux 7.3 or newer, and reboot",
        )
    })
}

fn reattach(version: Version) -> Option<Finding> {
    (version >= REATTACH_LEAK).then(|| {
        Finding::warning(
            "bug: re-attach leak",
            format!(
                "{version} loses a device's bounce memory when it is detached and attached again"
            ),
            "end pollux serve and start it again instead of: pollux detach, pollux attach",
        )
    })
}

/// An interrupt for a queue whose CPUs are all offline keeps the kernel looping for ever.
fn offline_cpus(host: &Host, version: Version) -> Option<Finding> {
    let count = |file| count_in_list(&host.read(&format!("/sys/devices/system/cpu/{file}"))?);
    let (online, possible) = (count("online")?, count("possible")?);
    (version >= IRQ_AFFINITY && possible > online).then(|| {
        Finding::warning(
            "bug: interrupt for offline CPUs",
            format!(
                "{online} of {possible} possible CPUs are online: an interrupt for a queue whose \
                 CPUs are offline loops in the kernel for ever"
            ),
            format!("pollux serve --queues {online} (or fewer), and take no CPU offline meanwhile"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(check: &str, version: Version) -> bool {
        let bug = BUGS.iter().find(|bug| bug.check.contains(check)).unwrap();
        finding(bug, version).is_some()
    }

    #[test]
    fn a_stable_series_is_mended_by_its_own_release() {
        assert!(has("CVE-2026-74313", Version::new(6, 12, 96)));
        assert!(!has("CVE-2026-74313", Version::new(6, 12, 97)));
        assert!(has("CVE-2026-74313", Version::new(7, 1, 4)));
        assert!(!has("CVE-2026-74313", Version::new(7, 1, 5)));
        assert!(!has("CVE-2026-74313", Version::new(7, 3, 4)));
        assert!(has("CVE-2022-2308", Version::new(5, 19, 9)));
        assert!(!has("CVE-2022-2308", Version::new(6, 0, 0)));
    }

    #[test]
    fn a_series_without_known_backport_is_uncertain() {
        let finding = finding(&BUGS[0], Version::new(6, 18, 44)).unwrap();
        assert!(finding.detail.contains("unless"), "{}", finding.detail);
        assert!(finding.remedy.unwrap().contains("7.1.5"));
    }

    #[test]
    fn current_stable_kernels_have_no_listed_bug() {
        for version in [Version::new(6, 12, 117), Version::new(7, 3, 4)] {
            assert!(
                BUGS.iter().all(|bug| finding(bug, version).is_none()),
                "{version}"
            );
        }
    }
}
