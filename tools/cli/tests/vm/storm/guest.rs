//! The driver process of a guest is killed: the kernel closes the device for it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::guest::{Daemon, PATIENCE, Running, until};
use crate::vhost::{Device, IN, PLAIN};

use super::{Random, storm};

const VHOST: &[&str] = &["--attach", "vhost"];
const NODE: &str = "POLLUX_STORM_NODE";

/// Not a test of its own: the process that [`Driver`] starts.
#[test]
#[ignore = "it is run by other tests"]
fn driver() {
    let Ok(node) = std::env::var(NODE) else {
        return;
    };
    let mut device = Device::start(Path::new(&node), 2, PLAIN);
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for index in 0..2 {
            device.queues[index].prepare(&device.memory, IN, 0, &[0; 4096]);
            device.publish(index);
        }
        for index in 0..2 {
            assert_eq!(device.status_of_one(index), 0);
        }
    }
}

/// A process with a driver that does nothing but read.
struct Driver(Running);

impl Driver {
    fn start(node: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = ["--exact", "storm::guest::driver", "--include-ignored"];
        command.args(name).env(NODE, node);
        Self(Running::start(command))
    }

    /// Waits until it has the device, and kills it at any moment after that.
    fn kill(self, daemon: &Daemon, random: &mut Random) {
        let requests = || {
            let queues = daemon.snapshot().queues;
            queues.iter().map(|queue| queue.requests).sum::<u64>()
        };
        let before = requests();
        until("requests of the driver", || {
            (requests() > before + 10).then_some(())
        });
        random.pause(100);
        // Dropping it does.
        drop(self.0);
        until("the reset", || {
            (daemon.snapshot().state == "reset").then_some(())
        });
    }
}

fn prove(node: &Path) {
    let mut device = Device::start(node, 2, PLAIN);
    device.prove(0);
    device.prove(1);
}

#[test]
fn kill_of_a_guests_driver() {
    storm(VHOST, |daemon, random| {
        let node = daemon.node();
        Driver::start(&node).kill(daemon, random);
        prove(&node);
    });
}

#[test]
fn kill_detach_and_attach_of_a_guests_driver() {
    storm(VHOST, |daemon, random| {
        Driver::start(&daemon.node()).kill(daemon, random);
        daemon.detach();
        prove(&daemon.attach("vhost"));
    });
}
