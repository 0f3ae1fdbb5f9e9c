//! Real storage held to what every backend promises, asked of its queues directly: the suite that the backends of one
//! machine's own pass without a guest.

#[path = "../../../../dataplane/tests/storage/mod.rs"]
mod storage;

use pollux_control::device::BackendSpec;

use crate::guest::in_guest;
use crate::nvme_vfio::{Controller, backend as vfio};
use crate::storage::{namespace, passed_through, poll_queues};

/// Opens what `backend` says, as `pollux serve` does, and asks all of it.
fn keeps_its_promises(backend: &str) {
    eprintln!("{backend}");
    let spec: BackendSpec = backend.parse().unwrap();
    storage::keeps_its_promises(&spec.open("").unwrap());
}

#[test]
fn namespaces_of_the_kernel_keep_what_a_backend_promises() {
    in_guest(|| {
        for polled in [false, true] {
            poll_queues(if polled { 2 } else { 0 });
            let iopoll = if polled { "" } else { ",iopoll=off" };
            for nsid in [1, 2] {
                let node = namespace(nsid);
                keeps_its_promises(&format!("nvme,path={node}{iopoll}"));
                let node = passed_through(&node);
                keeps_its_promises(&format!("nvme,path={node}{iopoll}"));
            }
        }
        poll_queues(0);
        keeps_its_promises(&format!("block,path={}", namespace(1)));
        keeps_its_promises(&format!("block,path={},direct=off", namespace(2)));
    });
}

#[test]
fn namespaces_of_the_daemon_keep_it_too() {
    in_guest(|| {
        let _controller = Controller::new();
        for nsid in [1, 2] {
            keeps_its_promises(&vfio(&format!("nsid={nsid}")));
        }
    });
}
