//! What Linux 7 added to VDUSE, over a guest's driver. Older kernels do without it: the same steps then show that the
//! daemon knows.

use std::time::Duration;

use nix::errno::Errno;

use crate::guest::{Daemon, Fio, in_guest, pollux, read};
use crate::vhost::{Device, PLAIN};

/// Where the disk's bytes are; outside of what is looked through for left-overs.
const DISK: &str = "/tmp/protocol-disk";

const VHOST: &[&str] = &["--queues", "2", "--attach", "vhost"];

fn backend() -> String {
    format!("ram,size=64M,path={DISK}")
}

/// Major and minor number of this kernel's release.
fn release() -> (u32, u32) {
    let text = read("/proc/sys/kernel/osrelease");
    let mut numbers = text.split('.').map(|number| number.parse());
    let mut next = || numbers.next().expect(&text).expect(&text);
    (next(), next())
}

pub(crate) fn has_api_1() -> bool {
    release() >= (7, 0)
}

/// Whether queues can be enabled late, and devices suspended.
fn has_features() -> bool {
    release() >= (7, 3)
}

/// Sees that `daemon` agreed with the kernel on the most that this one has.
fn check(daemon: &Daemon) {
    let shown = daemon.snapshot();
    let features: &[&str] = match has_features() {
        true => &["queue_ready", "suspend"],
        false => &[],
    };
    assert_eq!(shown.api_version, u64::from(has_api_1()));
    assert_eq!(shown.protocol_features, features);
}

#[test]
fn the_most_that_the_kernel_knows_is_agreed_on_and_outlives_the_daemon() {
    in_guest(|| {
        let _ = std::fs::remove_file(DISK);
        let options = ["--queues", "2", "--attach", "virtio"];
        let mut daemon = Daemon::serve("d0", &backend(), &options);
        for _ in 0..3 {
            check(&daemon);
            let verify = Fio::verify(daemon.disk().node(), "4k", 32, "4M");
            verify.run();
            let load = verify.start();
            std::thread::sleep(Duration::from_millis(200));
            daemon.kill();
            daemon = Daemon::serve("d0", &backend(), &options);
            load.wait(3 * crate::guest::PATIENCE).succeeded();
        }
        check(&daemon);
        let printed = pollux(&["status", "d0"]).succeeded();
        let line = match (has_api_1(), has_features()) {
            (true, true) => "protocol  API 1, queue_ready, suspend\n",
            (true, false) => "protocol  API 1\n",
            (false, _) => "protocol  API 0\n",
        };
        assert!(printed.contains(line), "{printed}");
        daemon.stop();
    });
}

#[test]
fn a_queue_is_left_alone_while_it_is_disabled_and_goes_on_where_it_was() {
    in_guest(|| {
        let options = [VHOST, &["--poll", "busy"]].concat();
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        for round in 1..=5 {
            device.prove(0);
            device.kernel.enable(0, false);
            let taken = 3 * round - 1;
            assert_eq!(device.kernel.vring_base(0), Ok(taken));
            // Before 7.3 nobody tells.
            assert_eq!(device.is_served(0), !has_features());
            device.prove(1);
            let taken = if has_features() { taken } else { taken + 1 };
            assert_eq!(device.kernel.vring_base(0), Ok(taken));
            device.kernel.enable(0, true);
            if has_features() {
                assert_eq!(device.status_of_one(0), 0);
            }
        }
        device.prove(0);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn queues_are_enabled_long_after_the_driver_is_ready() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", VHOST);
        let mut device = Device::start_disabled(&daemon.node(), 2, PLAIN);
        // Longer than queues are looked at where nobody tells.
        std::thread::sleep(Duration::from_millis(1500));
        device.kernel.enable(1, true);
        if has_features() {
            device.prove(1);
            assert!(!device.is_served(0), "a queue that was never enabled");
            device.kernel.enable(0, true);
            assert_eq!(device.status_of_one(0), 0);
        } else {
            assert!(
                !device.is_served(1),
                "a kernel that tells, and is not believed to"
            );
        }
        device.restart(2, PLAIN);
        device.prove(0);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_disabled_queue_goes_on_with_the_next_daemon() {
    in_guest(|| {
        let _ = std::fs::remove_file(DISK);
        let daemon = Daemon::serve("d0", &backend(), VHOST);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        device.kernel.enable(0, false);
        daemon.kill();
        let daemon = Daemon::serve("d0", &backend(), VHOST);
        device.prove(1);
        if has_features() {
            assert_eq!(device.kernel.vring_base(0), Ok(2));
            assert!(!device.is_served(0), "a disabled queue");
            device.kernel.enable(0, true);
            assert_eq!(device.status_of_one(0), 0);
        } else {
            // It is not ready, and nobody tells when it is.
            device.restart(2, PLAIN);
        }
        device.prove(0);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_suspended_device_stands_still_until_its_reset() {
    in_guest(|| {
        let _ = std::fs::remove_file(DISK);
        let mut daemon = Daemon::serve("d0", &backend(), VHOST);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        if !has_features() {
            assert_eq!(device.kernel.suspend(), Err(Errno::EOPNOTSUPP));
            device.prove(0);
            assert_eq!(device.kernel.vring_base(0), Ok(2));
            drop(device);
            return daemon.stop();
        }
        for killed in [false, true] {
            device.prove(0);
            device.prove(0);
            device.prove(1);
            device.kernel.suspend().unwrap();
            assert_eq!(daemon.snapshot().state, "suspended");
            assert!(!device.is_served(0), "a suspended queue");
            if killed {
                daemon.kill();
                daemon = Daemon::serve("d0", &backend(), VHOST);
                assert_eq!(daemon.snapshot().state, "suspended");
            }
            assert_eq!(device.kernel.resume(), Err(Errno::EOPNOTSUPP));
            let taken = [0, 1].map(|index| device.kernel.vring_base(index));
            assert_eq!(taken, [Ok(4), Ok(2)]);
            device.kernel.enable(0, false);
            device.kernel.enable(0, true);
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(device.kernel.vring_base(0), Ok(4));
            device.restart(2, PLAIN);
            device.prove(0);
            assert_eq!(daemon.snapshot().state, "running");
            assert_eq!(device.kernel.vring_base(0), Ok(2));
            device.restart(2, PLAIN);
        }
        drop(device);
        daemon.stop();
    });
}

#[test]
fn all_queues_are_in_one_group_with_one_address_space() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", VHOST);
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        assert_eq!(device.kernel.groups_and_address_spaces(), (1, 1));
        device.kernel.set_status(0);
        let set = match has_api_1() {
            true => Ok(()),
            false => Err(Errno::EOPNOTSUPP),
        };
        assert_eq!(device.kernel.set_group_asid(0, 0), set);
        assert_eq!(device.kernel.set_group_asid(0, 1), Err(Errno::EINVAL));
        assert_eq!(device.kernel.set_group_asid(1, 0), Err(Errno::EINVAL));
        device.restart(2, PLAIN);
        device.prove(0);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_device_is_made_anew_for_an_attach_only_where_it_takes_that() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", &["--queues", "2"]);
        let made_anew = || daemon.log().matches("made anew").count();
        let mut pattern = [0; 4096];
        for round in 0..6 {
            let before = made_anew();
            daemon.attach("virtio");
            let disk = daemon.disk();
            // Left by the guest of the round before.
            if round > 0 {
                let bytes = std::fs::read(disk.node()).unwrap();
                assert!(bytes[..4096] == pattern, "round {round}");
            }
            Fio::verify(disk.node(), "16k", 16, "4M").run();
            daemon.detach();
            daemon.attach("virtio");
            let after_disks = usize::from(has_api_1());
            // A guest that is killed leaves its memory mapped, in what survived it before 7.0.
            let after_guest = usize::from(round > 0);
            assert_eq!(made_anew() - before, after_guest + after_disks);
            Fio::verify(daemon.disk().node(), "16k", 16, "4M").run();
            daemon.detach();
            let mut device = Device::start(&daemon.attach("vhost"), 2, PLAIN);
            assert_eq!(made_anew() - before, after_guest + 2 * after_disks);
            pattern = [round + 1; 4096];
            assert_eq!(device.request(1, 1, 0, &mut pattern), 0);
            device.prove(1);
            drop(device);
            daemon.detach();
        }
        check(&daemon);
        daemon.stop();
    });
}
