//! Requests that the backend keeps: they fail when the driver is to let go, and after `--io-timeout`.

use std::time::Duration;

use crate::guest::{Daemon, Fio, PATIENCE, Running, in_guest, read, until, write};
use crate::vhost::{Device, IN, PLAIN};

use super::bounded;

/// Reads are quick, so that a disk appears; what is written is never finished.
const DEAF: &str = "delay,write_latency=forever:ram,size=64M";
const VIRTIO: &[&str] = &["--queues", "2", "--attach", "virtio"];

/// Starts to write on both queues, and waits until some of it is on its way.
fn hung_load(daemon: &Daemon) -> Running {
    let load = Fio::new(daemon.disk().node(), "randwrite", "4k", 32)
        .with("size", "32M")
        .with("numjobs", "2")
        .with("cpus_allowed", "0,1")
        .with("cpus_allowed_policy", "split")
        .start();
    daemon.disk().until_busy();
    load
}

fn assert_failed(load: Running) {
    let load = load.wait(PATIENCE);
    assert!(!load.status.success(), "fio went on: {}", load.stdout);
    let errors = load.stdout + &load.stderr;
    assert!(errors.contains("error=Input/output error"), "{errors}");
}

fn assert_reads(daemon: &Daemon) {
    let read = Fio::new(daemon.disk().node(), "read", "64k", 8).with("size", "4M");
    assert_eq!(read.run().bytes_read, 4 << 20);
}

#[test]
fn a_detach_and_a_stop_end_within_a_drain_while_another_device_runs_on() {
    in_guest(|| {
        let other = Daemon::serve("d1", "ram,size=64M", VIRTIO);
        let verify = || Fio::verify(other.disk().node(), "4k", 16, "8M").start();
        let daemon = Daemon::serve("d0", DEAF, VIRTIO);
        for _ in 0..2 {
            let load = hung_load(&daemon);
            let healthy = verify();
            until("what the backend holds", || {
                let queues = daemon.snapshot().queues.into_iter();
                let mut reasons = queues.filter_map(|queue| queue.fault);
                reasons
                    .any(|it| it.contains("held a request"))
                    .then_some(())
            });
            bounded("detach", || daemon.detach());
            assert_failed(load);
            healthy.wait(3 * PATIENCE).succeeded();
            let seen = daemon.snapshot();
            assert_eq!((seen.state.as_str(), seen.problem), ("reset", None));
            daemon.attach("virtio");
            assert_reads(&daemon);
        }
        assert!(daemon.log().contains("the backend held a request for 5 s"));
        let load = hung_load(&daemon);
        let healthy = verify();
        bounded("stop", || daemon.stop());
        assert_failed(load);
        healthy.wait(3 * PATIENCE).succeeded();
        other.stop();
    });
}

#[test]
fn a_probe_that_hangs_ends_with_a_signal() {
    in_guest(|| {
        let hung = "delay,latency=forever:null,size=64M";
        let mut daemon = Daemon::start("d0", hung, VIRTIO);
        daemon.event("waiting");
        bounded("stop", || daemon.stop());
    });
}

#[test]
fn what_nobody_told_of_ends_with_the_time_limit() {
    in_guest(|| {
        let options = [VIRTIO, &["--io-timeout", "3"]].concat();
        let daemon = Daemon::serve("d0", DEAF, &options);
        let load = hung_load(&daemon);
        assert_eq!(daemon.snapshot().io_timeout_s, Some(3));
        let driver = "/sys/bus/vdpa/drivers/virtio_vdpa";
        bounded("unbind", || write(format!("{driver}/unbind"), "d0"));
        assert_failed(load);
        write(format!("{driver}/bind"), "d0");
        assert_eq!(read("/sys/bus/vdpa/drivers_autoprobe"), "1");
        assert_reads(&daemon);
        assert!(daemon.log().contains("the backend held a request for 3 s"));
        daemon.stop();
    });
}

#[test]
fn slow_is_not_dead() {
    in_guest(|| {
        let slow = "delay,latency=20ms:ram,size=64M";
        let options = [VIRTIO, &["--io-timeout", "1"]].concat();
        let daemon = Daemon::serve("d0", slow, &options);
        Fio::verify(daemon.disk().node(), "4k", 32, "4M").run();
        let queues = daemon.snapshot().queues;
        for queue in &queues {
            assert_eq!(queue.errors, 0, "{queue:?}");
            // Histograms are coarse.
            assert!(queue.latency_ns.p50 >= 19_900_000, "{queue:?}");
        }
        daemon.stop();
    });
}

#[test]
fn nothing_is_written_to_a_guests_memory_after_a_reset() {
    in_guest(|| {
        // Finished two seconds after the drain has ended.
        let slow = "delay,read_latency=7s:ram,size=64M";
        let daemon = Daemon::serve("d0", slow, &["--attach", "vhost"]);
        let mut device = Device::start(&daemon.node(), 1, PLAIN);
        let queue = &mut device.queues[0];
        queue.prepare(&device.memory, IN, 0, &[0x11; 4096]);
        device.publish(0);
        std::thread::sleep(Duration::from_millis(500));
        bounded("reset", || device.kernel.set_status(0));
        let bytes = device.memory.bytes() as usize;
        device.memory.write(0, &vec![0xa5; bytes]);
        std::thread::sleep(Duration::from_secs(4));
        let mut after = vec![0; bytes];
        device.memory.read(0, &mut after);
        assert!(after.iter().all(|byte| *byte == 0xa5), "it was written to");
        device.restart(1, PLAIN);
        assert_eq!(device.request(0, IN, 0, &mut [0; 4096]), 0);
        assert!(
            daemon.log().contains("abandoned 1 requests"),
            "{}",
            daemon.log()
        );
        drop(device);
        daemon.stop();
    });
}
