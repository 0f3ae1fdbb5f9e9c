//! What stands before a backend: slow, limited and failing storage as a user of the disk sees it.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::Value;

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, pollux};

const VIRTIO: &[&str] = &["--queues", "2", "--attach", "virtio"];
const BLOCK: usize = 4096;

/// Opens the disk of `daemon` so that each read is a request.
fn open_direct(daemon: &Daemon) -> File {
    let file = daemon.disk().open(true).unwrap();
    fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
    file
}

/// Reads the block `number`.
fn read_block(file: &File, number: u64) -> Result<(), Errno> {
    let mut memory = vec![0; 2 * BLOCK];
    let aligned = memory.as_ptr().align_offset(BLOCK);
    let read = file.read_exact_at(&mut memory[aligned..aligned + BLOCK], number * BLOCK as u64);
    read.map_err(|error| Errno::from_raw(error.raw_os_error().expect("an errno")))
}

/// Returns the errors that all queues have counted, in total and as `errno`.
fn errors(daemon: &Daemon, errno: &str) -> (u64, u64) {
    let queues = daemon.snapshot().queues;
    let of_host = queues
        .iter()
        .filter_map(|queue| queue.host_errors.get(errno));
    (queues.iter().map(|queue| queue.errors).sum(), of_host.sum())
}

/// Returns what fio reports of the only job of `load`, whether or not requests of it fail.
fn job(load: &Fio) -> Value {
    let output = load.start().wait(3 * PATIENCE);
    let json = output.stdout.find('{').expect(&output.stderr);
    let report: Value = serde_json::from_str(&output.stdout[json..]).expect("JSON");
    report["jobs"][0].clone()
}

fn requests(daemon: &Daemon) -> u64 {
    let queues = daemon.snapshot().queues;
    queues.iter().map(|queue| queue.requests).sum()
}

#[test]
fn a_limited_and_slow_disk_keeps_its_data_and_its_limit() {
    in_guest(|| {
        let backend = "throttle,iops=1000,iops_burst=20:delay,latency=100us..300us:ram,size=64M";
        let daemon = Daemon::serve("d0", backend, VIRTIO);
        let node = daemon.disk().node().to_owned();
        let (begun, before) = (Instant::now(), requests(&daemon));
        let report = Fio::verify(&node, "4k", 16, "2M").run();
        let took_s = begun.elapsed().as_secs_f64();
        let passed = requests(&daemon) - before;
        assert_eq!(report.bytes_read, 4 << 20);
        println!("{passed} requests in {took_s:.2} s");
        assert!(
            passed as f64 <= 20.0 + 1000.0 * took_s,
            "{passed} in {took_s} s"
        );
        assert_eq!(errors(&daemon, "EIO"), (0, 0));
        daemon.stop();
        let daemon = Daemon::serve("d0", "throttle,bps=4M,bps_burst=64K:null,size=64M", VIRTIO);
        let node = daemon.disk().node().to_owned();
        let job = job(&Fio::new(&node, "read", "64k", 8).with("size", "8M"));
        assert_eq!(job["read"]["io_bytes"], 8 << 20);
        let took_ms = job["read"]["runtime"].as_u64().expect("a number");
        println!("8 MiB in {took_ms} ms");
        assert!(took_ms >= 1_950, "8 MiB took {took_ms} ms");
        daemon.stop();
    });
}

#[test]
fn reads_fail_exactly_in_the_range() {
    in_guest(|| {
        let backend = "error,op=read,range=1M..1036K:ram,size=64M";
        let daemon = Daemon::serve("d0", backend, VIRTIO);
        let file = open_direct(&daemon);
        let before = errors(&daemon, "EIO");
        for number in 0..512 {
            let expected = match (256..259).contains(&number) {
                true => Err(Errno::EIO),
                false => Ok(()),
            };
            assert_eq!(read_block(&file, number), expected, "block {number}");
        }
        let after = errors(&daemon, "EIO");
        assert_eq!((after.0 - before.0, after.1 - before.1), (3, 3));
        // What is written there is no read.
        let write = Fio::new(daemon.disk().node(), "write", "64k", 8).with("size", "4M");
        assert_eq!(write.run().bytes_written, 4 << 20);
        assert_eq!(errors(&daemon, "EIO"), after);
        drop(file);
        daemon.stop();
    });
}

#[test]
fn a_driver_tells_only_what_failed_from_what_is_unsupported() {
    in_guest(|| {
        let backend = "error,op=flush,kind=nospace:error,range=0..4K,kind=unsupported:ram,size=64M";
        let daemon = Daemon::serve("d0", backend, VIRTIO);
        let file = open_direct(&daemon);
        let (before, of_host) = errors(&daemon, "ENOSPC");
        assert_eq!(read_block(&file, 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(read_block(&file, 1), Ok(()));
        assert_eq!(errors(&daemon, "ENOSPC"), (before + 1, of_host));
        let flushed = file.sync_all().map_err(|error| error.raw_os_error());
        assert_eq!(flushed, Err(Some(Errno::EIO as i32)));
        assert_eq!(errors(&daemon, "ENOSPC"), (before + 2, of_host + 1));
        drop(file);
        daemon.stop();
    });
}

#[test]
fn three_wrappers_each_do_their_own() {
    in_guest(|| {
        let backend = "error,rate=1/50,op=read,range=1M..64M,seed=7:throttle,iops=1000:\
                       delay,latency=300us~100us,seed=7:ram,size=64M";
        let daemon = Daemon::serve("d0", backend, &["--attach", "virtio"]);
        assert_eq!(daemon.snapshot().backend, backend);
        let node = daemon.disk().node().to_owned();
        let (before, _) = errors(&daemon, "EIO");
        // One at a time, so that no request is made of two reads.
        let load = Fio::new(&node, "randread", "4k", 1)
            .with("offset", "1M")
            .with("size", "8M")
            .with("continue_on_error", "io");
        let job = job(&load);
        let failed = job["total_err"].as_u64().expect("a number");
        let took_ms = job["read"]["runtime"].as_u64().expect("a number");
        let (after, of_host) = errors(&daemon, "EIO");
        println!("{failed} of 2048 reads failed in {took_ms} ms");
        assert_eq!((after - before, of_host), (failed, failed));
        // Four standard deviations around 2048 / 50.
        assert!((15..=67).contains(&failed), "{failed} of 2048 reads failed");
        let queue = daemon.snapshot().queues.remove(0);
        println!("{:?}", queue.latency_ns);
        assert!(queue.latency_ns.p50 >= 200_000, "{queue:?}");
        assert!(took_ms >= 1_900, "2048 reads took {took_ms} ms");
        daemon.stop();
    });
}

#[test]
fn mistakes_are_usage_errors() {
    in_guest(|| {
        for (backend, remedy) in [
            ("throttle,bps=1M", "add one"),
            ("error,rate=2:ram,size=1M", "0.01 or 1/100"),
            ("delay,latency=2ms..1ms:ram,size=1M", "100us..300us"),
        ] {
            let output = pollux(&["serve", "--name", "d0", "--backend", backend]);
            assert_eq!(output.status.code(), Some(2), "{backend}");
            assert!(output.stderr.contains(remedy), "{}", output.stderr);
        }
    });
}
