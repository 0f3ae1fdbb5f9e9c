//! Devices come and go under load, and leave nothing behind.

mod attach;
mod killed;
mod leaks;
mod refused;
mod shutdown;

use crate::guest::{Daemon, Fio, Running, until};

/// A load that does not end by itself: reads and writes on both queues.
pub(crate) fn endless_load(node: &str) -> Running {
    Fio::new(node, "randrw", "4k", 32)
        .with("size", "32M")
        .with("numjobs", "2")
        .with("cpus_allowed", "0,1")
        .with("cpus_allowed_policy", "split")
        .with("time_based", "1")
        .with("runtime", "600")
        .start()
}

/// Waits until every queue of the device has served some of the load.
fn until_under_load(daemon: &Daemon) {
    let before: Vec<u64> = requests(daemon);
    until("the load on every queue", || {
        let now = requests(daemon).into_iter();
        let mut each = now.zip(&before).map(|(now, before)| now - before);
        each.all(|requests| requests > 200).then_some(())
    });
}

fn requests(daemon: &Daemon) -> Vec<u64> {
    let queues = daemon.snapshot().queues;
    queues.iter().map(|queue| queue.requests).collect()
}
