//! A daemon that does not answer the kernel in time: here all of it is stopped.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::guest::{Daemon, Fio, in_guest, until, write};
use crate::vhost::{Device, PLAIN};

use super::bounded;

#[test]
fn a_device_that_the_kernel_gave_up_is_made_anew_for_the_next_attach() {
    in_guest(|| {
        let options = ["--queues", "2", "--attach", "vhost"];
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        // Less than the daemon would set, so as not to wait for it.
        write("/sys/class/vduse/d0/msg_timeout", "1");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        let mut pattern = [7; 4096];
        assert_eq!(device.request(0, 1, 8, &mut pattern), 0);
        let process = Pid::from_raw(daemon.pid());
        kill(process, Signal::SIGSTOP).unwrap();
        // Its reset is a message that nobody answers.
        bounded("the guest's end", || drop(device));
        kill(process, Signal::SIGCONT).unwrap();
        until("a broken device", || {
            (daemon.snapshot().state == "broken").then_some(())
        });
        let problem = daemon.snapshot().problem.expect("a reason");
        assert!(problem.contains("attach it again"), "{problem}");
        daemon.detach();
        let node = daemon.attach("virtio");
        let shown = daemon.snapshot();
        assert_eq!((shown.state.as_str(), shown.problem), ("running", None));
        let bytes = std::fs::read(&node).unwrap();
        assert!(bytes[8 * 512..][..4096] == pattern, "the disk was kept");
        Fio::verify(daemon.disk().node(), "4k", 32, "4M").run();
        daemon.stop();
    });
}
