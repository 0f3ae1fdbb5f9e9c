//! The kernel's log.

use std::process::Command;

/// What the kernel writes when it, or something that it watches, is broken.
const COMPLAINTS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection fault",
    "blocked for more than",
    "rcu_preempt detected stalls",
    "soft lockup",
    "Out of memory",
    "segfault at",
    "page allocation failure",
];

/// Returns every line.
pub(super) fn lines() -> Vec<String> {
    let output = Command::new("dmesg").output().expect("dmesg is there");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(ToOwned::to_owned).collect()
}

/// Returns what is wrong with the kernel, from line `start` on.
pub(super) fn complaints(start: usize) -> Vec<String> {
    let log = lines().into_iter().skip(start);
    log.filter(|line| COMPLAINTS.iter().any(|word| line.contains(word)))
        .collect()
}
