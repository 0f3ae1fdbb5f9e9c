//! A driver whose choice of features cannot be served.

use crate::guest::{Daemon, in_guest};
use crate::vhost::{ACCESS_PLATFORM, Device, FEATURES_OK, Kernel, PLAIN};

#[test]
fn features_that_cannot_be_served_are_refused_and_others_work_afterwards() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", &["--attach", "vhost"]);
        let node = daemon.node();
        {
            let kernel = Kernel::open(&node);
            kernel.set_status(3);
            // Without VIRTIO_F_VERSION_1 rings have the byte order of the guest.
            kernel.set_features(ACCESS_PLATFORM);
            kernel.set_status(3 | FEATURES_OK);
            assert_eq!(kernel.status(), 3, "FEATURES_OK was accepted");
            let seen = daemon.snapshot();
            assert_eq!(seen.state, "refused");
            let problem = seen.problem.expect("a reason");
            assert!(problem.contains("0x100000000"), "{problem}");
            assert!(daemon.log().contains(&problem), "{}", daemon.log());
        }
        let mut device = Device::start(&node, 1, PLAIN);
        device.prove(0);
        assert_eq!(daemon.snapshot().problem, None);
        drop(device);
        daemon.stop();
    });
}
