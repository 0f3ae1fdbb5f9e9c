//! SIGTERM and SIGINT, with fio at work.

use nix::sys::signal::Signal;

use crate::guest::{Daemon, PATIENCE, in_guest, leftovers, read, run, write};

use super::{endless_load, until_under_load};

/// What five rounds may cost the machine: fio's and the kernel's own caches go up and down. One
/// round that leaks its disk or its bounce buffers costs tens of mebibytes.
const MEMORY_KIB_MAX: i64 = 12 << 10;
const SLAB_KIB_MAX: i64 = 4 << 10;

fn stop_under_load(signal: Signal) {
    let options = ["--queues", "2", "--attach", "virtio"];
    let daemon = Daemon::serve("d0", "ram,size=64M", &options);
    let load = endless_load(daemon.disk().node());
    until_under_load(&daemon);
    daemon.stop_with(signal);
    assert_eq!(leftovers(), [""; 0]);
    let load = load.wait(PATIENCE);
    assert!(!load.status.success(), "fio went on: {}", load.stdout);
}

/// Returns available memory and unreclaimable kernel memory, in KiB.
fn memory() -> (i64, i64) {
    run("sync", &[]).succeeded();
    write("/proc/sys/vm/drop_caches", "3");
    // Pages are freed lazily, by RCU and by workers.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let seen = read("/proc/meminfo");
    let field = |name: &str| {
        let line = seen.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|n| n.parse().ok()).expect(name)
    };
    (field("MemAvailable:"), field("SUnreclaim:"))
}

/// Returns what five rounds cost: available memory, and unreclaimable kernel memory, in KiB.
fn five_rounds() -> (i64, i64) {
    let (available_before, slab_before) = memory();
    for _ in 0..4 {
        stop_under_load(Signal::SIGTERM);
    }
    stop_under_load(Signal::SIGINT);
    let (available, slab) = memory();
    (available_before - available, slab - slab_before)
}

#[test]
fn signals_under_load_leave_no_device_no_thread_and_no_memory_behind() {
    in_guest(|| {
        stop_under_load(Signal::SIGTERM);
        // One look at the memory that is available is noisy, but a leak costs every five rounds the same.
        let costs: Vec<(i64, i64)> = std::iter::repeat_with(five_rounds).take(3).collect();
        eprintln!("KiB less available and more slab after five rounds, three times: {costs:?}");
        let least = |cost: fn(&(i64, i64)) -> i64| costs.iter().map(cost).min();
        let (lost, grown) = (least(|cost| cost.0), least(|cost| cost.1));
        assert!(lost < Some(MEMORY_KIB_MAX), "{costs:?}");
        assert!(grown < Some(SLAB_KIB_MAX), "{costs:?}");
    });
}

#[test]
fn a_daemon_that_is_not_attached_stops_at_once() {
    in_guest(|| {
        let begun = std::time::Instant::now();
        Daemon::serve("d0", "null,size=1G", &["--poll", "busy"]).stop();
        assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
    });
}
