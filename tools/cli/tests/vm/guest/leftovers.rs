//! What a daemon must not leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Running;

/// Returns everything of a daemon's that is there, a line each.
pub(crate) fn leftovers() -> Vec<String> {
    let mut found: Vec<String> = nodes().map(|n| format!("/dev/vduse/{n}")).collect();
    found.extend(paths("/sys/bus/vdpa/devices"));
    found.extend(paths("/run/pollux"));
    found.extend(disks().map(|disk| format!("/dev/{disk}")));
    found.extend(daemons().map(|pid| format!("process {pid}")));
    if let Ok(probing) = fs::read_to_string("/sys/bus/vdpa/drivers_autoprobe")
        && probing.trim() != "1"
    {
        found.push("drivers_autoprobe is off".into());
    }
    found
}

/// Waits until nothing is left: a process that was told to end takes a moment.
pub(super) fn wait_until_none() {
    let end = Instant::now() + Duration::from_secs(2);
    while !leftovers().is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(leftovers(), [""; 0], "this was left behind");
}

/// Removes what a failed test left, as far as that works.
pub(super) fn clear() {
    // What a test that failed had set for the disks of the next one.
    let _ = fs::write("/sys/module/virtio_blk/parameters/poll_queues", "0");
    for pid in daemons() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    std::thread::sleep(Duration::from_millis(500));
    for name in nodes() {
        let mut detach = Running::program("pollux", &["detach", &name]);
        // Bounded, as taking down a device that has I/O in flight may hang.
        let end = Instant::now() + Duration::from_secs(10);
        while !detach.has_ended() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let _ = fs::remove_dir_all("/run/pollux");
}

/// Returns the names of all VDUSE devices.
fn nodes() -> impl Iterator<Item = String> {
    let nodes = names("/dev/vduse").into_iter();
    nodes.filter(|name| name != "control")
}

fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn paths(folder: &str) -> Vec<String> {
    let names = names(folder).into_iter();
    names.map(|name| format!("{folder}/{name}")).collect()
}

fn disks() -> impl Iterator<Item = String> {
    let disks = names("/sys/block").into_iter();
    disks.filter(|name| name.starts_with("vd"))
}

/// Returns the processes that run the `pollux` program.
fn daemons() -> impl Iterator<Item = i32> {
    let processes = names("/proc").into_iter().filter_map(|n| n.parse().ok());
    processes.filter(|pid: &i32| {
        let program = fs::read_link(PathBuf::from(format!("/proc/{pid}/exe")));
        program.is_ok_and(|path| path.file_name().is_some_and(|name| name == "pollux"))
    })
}
