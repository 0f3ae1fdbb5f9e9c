//! What this user may do.

use super::Finding;
use super::host::Host;

const STATUS: &str = "/proc/self/status";

/// A capability (`include/uapi/linux/capability.h`) and what it is for.
struct Capability {
    check: &'static str,
    word: &'static str,
    bit: u32,
    purpose: &'static str,
}

const NET_ADMIN: Capability = Capability {
    check: "CAP_NET_ADMIN",
    word: "cap_net_admin",
    bit: 12,
    purpose: "attach and detach devices",
};
const SYS_NICE: Capability = Capability {
    check: "CAP_SYS_NICE",
    word: "cap_sys_nice",
    bit: 23,
    purpose: "give workers a real-time priority",
};
const IPC_LOCK: Capability = Capability {
    check: "CAP_IPC_LOCK",
    word: "cap_ipc_lock",
    bit: 14,
    purpose: "keep the daemon's memory from being swapped out",
};

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    vec![
        root(host),
        capability(host, &NET_ADMIN, Finding::missing),
        capability(host, &SYS_NICE, Finding::warning),
        capability(host, &IPC_LOCK, Finding::warning),
    ]
}

fn root(host: &Host) -> Finding {
    const CHECK: &str = "user";
    let users = host.field(STATUS, "Uid").unwrap_or_default();
    // Real, effective, saved, file system.
    match users.split_whitespace().nth(1) {
        Some("0") => Finding::good(CHECK, "root"),
        Some(user) if holds(host, CAP_DAC_OVERRIDE) => {
            Finding::good(CHECK, format!("user {user}, with CAP_DAC_OVERRIDE"))
        }
        user => {
            let user = user.unwrap_or("unknown");
            let detail = format!("user {user}; devices are attached through files of root in /sys");
            Finding::missing(CHECK, detail, "sudo pollux ...")
        }
    }
}

/// Lets a process use the files of others.
const CAP_DAC_OVERRIDE: u32 = 1;

/// Lets a process raise its own limits.
pub(super) const CAP_SYS_RESOURCE: u32 = 24;

/// Returns whether this process has the capability of this number.
pub(super) fn holds(host: &Host, bit: u32) -> bool {
    let effective = host.field(STATUS, "CapEff").unwrap_or_default();
    u64::from_str_radix(&effective, 16).unwrap_or(0) >> bit & 1 == 1
}

type Bad = fn(&'static str, String, String) -> Finding;

fn capability(host: &Host, capability: &Capability, bad: Bad) -> Finding {
    let Capability {
        check,
        word,
        bit,
        purpose,
    } = capability;
    if holds(host, *bit) {
        return Finding::good(check, "held");
    }
    let remedy = format!("sudo pollux ..., or: setcap {word}+ep $(command -v pollux)");
    bad(check, format!("not held; needed to {purpose}"), remedy)
}
