//! Drivers over vhost-vdpa: those that break the rules break their own queue and nothing else, and those
//! that keep them get their data.

mod breaches;
mod good;
mod memory;
mod requests;

use pollux_control::device::{QueueState, QueueStats};

use crate::guest::{Daemon, until};
use crate::vhost::Device;

/// Serves a ram disk of two queues to a driver in user space.
fn serve(backend: &str) -> Daemon {
    let features = ["--features", "indirect_desc,event_idx"];
    let options = [&features[..], &["--queues", "2", "--attach", "vhost"]].concat();
    Daemon::serve("d0", backend, &options)
}

/// Waits until queue `index` is shown as broken, and returns why.
fn why_broken(daemon: &Daemon, index: usize) -> String {
    until("the queue to be broken", || {
        let queue = queue(daemon, index);
        let is_broken = queue.state == QueueState::Broken;
        is_broken.then(|| queue.fault.expect("a reason"))
    })
}

fn queue(daemon: &Daemon, index: usize) -> QueueStats {
    daemon.snapshot().queues.remove(index)
}

/// Sees that queue 0 is broken for the reason that has `words`, that queue 1 goes on, and that a reset
/// mends everything.
fn assert_only_queue_0_broken(daemon: &Daemon, device: &mut Device, features: u64, words: &str) {
    let reason = why_broken(daemon, 0);
    assert!(reason.contains(words), "{reason}, not {words}");
    device.prove(1);
    assert_eq!(queue(daemon, 1).state, QueueState::Running);
    device.restart(2, features);
    device.prove(0);
    device.prove(1);
    let states = daemon.snapshot().queues.into_iter();
    let states: Vec<_> = states.map(|queue| (queue.state, queue.fault)).collect();
    assert_eq!(states, vec![(QueueState::Running, None); 2]);
}
