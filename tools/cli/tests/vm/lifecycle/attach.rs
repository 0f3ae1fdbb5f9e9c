//! Attaching, detaching and binding anew.

use std::path::Path;

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, write};
use crate::vhost::{Device, PLAIN};

use super::{endless_load, until_under_load};

const TWO_QUEUES: &[&str] = &["--queues", "2", "--attach", "virtio"];

fn verify(daemon: &Daemon) {
    Fio::verify(daemon.disk().node(), "16k", 16, "4M").run();
}

#[test]
fn a_disk_goes_while_it_is_used_and_comes_back() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", TWO_QUEUES);
        for _ in 0..3 {
            let load = endless_load(daemon.disk().node());
            until_under_load(&daemon);
            daemon.detach();
            let load = load.wait(PATIENCE);
            assert!(!load.status.success(), "fio went on: {}", load.stdout);
            let seen = daemon.snapshot();
            assert_eq!((seen.state.as_str(), seen.node), ("reset", None));
            daemon.attach("virtio");
            assert_eq!(daemon.snapshot().state, "running");
            verify(&daemon);
        }
        daemon.stop();
    });
}

#[test]
fn the_driver_is_unbound_and_bound_ten_times() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", TWO_QUEUES);
        let driver = Path::new("/sys/bus/vdpa/drivers/virtio_vdpa");
        for _ in 0..10 {
            write(driver.join("unbind"), "d0");
            assert_eq!(daemon.snapshot().state, "reset");
            write(driver.join("bind"), "d0");
            verify(&daemon);
        }
        assert_eq!(daemon.snapshot().state, "running");
        daemon.stop();
    });
}

#[test]
fn both_buses_take_turns() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", &["--queues", "2"]);
        for _ in 0..2 {
            daemon.attach("virtio");
            verify(&daemon);
            daemon.detach();
            let node = daemon.attach("vhost");
            let mut device = Device::start(&node, 2, PLAIN);
            device.prove(0);
            device.prove(1);
            drop(device);
            daemon.detach();
        }
        daemon.stop();
    });
}

#[test]
fn what_is_written_over_one_bus_is_read_over_the_other() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", &["--attach", "vhost"]);
        Device::start(&daemon.node(), 1, PLAIN).prove(0);
        daemon.detach();
        daemon.attach("virtio");
        let disk = std::fs::read(daemon.node()).unwrap();
        assert!(disk[..4096].iter().all(|&byte| byte == 0x5a));
        daemon.stop();
    });
}
