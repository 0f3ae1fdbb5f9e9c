//! What `pollux stats`, `status` and `list` show is what happened.

use pollux_control::device::{DeviceSnapshot, QueueState, QueueStats};

use crate::guest::{Daemon, Fio, Report, in_guest, pollux, run};

/// What one queue counted while `load` ran.
fn counted_during(daemon: &Daemon, load: &Fio) -> (QueueStats, QueueStats, Report) {
    let before = daemon.snapshot().queues.remove(0);
    let report = load.run();
    let after = daemon.snapshot().queues.remove(0);
    (before, after, report)
}

fn read_one_by_one(node: &str, requests: u32) -> Fio {
    Fio::new(node, "randread", "4k", 1)
        .with("number_ios", &requests.to_string())
        .with("size", "16M")
        .with("norandommap", "1")
}

#[test]
fn busy_polling_needs_no_kick() {
    in_guest(|| {
        let options = ["--poll", "busy", "--attach", "virtio"];
        let daemon = Daemon::serve("d0", "null,size=1G", &options);
        let node = daemon.disk().node().to_owned();
        let (before, after, report) = counted_during(&daemon, &read_one_by_one(&node, 4000));
        assert_eq!(report.requests(), 4000);
        // It slept once: while there was no queue to serve.
        assert_eq!((after.kicks, after.sleeps - before.sleeps), (0, 0));
        assert!(after.polls_busy > before.polls_busy);
        assert!(after.polls_idle > before.polls_idle);
        // One at a time: each needs its interrupt, but for those that the driver sees while it is still
        // busy with the one before.
        let interrupts = after.interrupts - before.interrupts;
        assert!((2000..=4000).contains(&interrupts), "{interrupts}");
        let deep = Fio::new(&node, "randread", "4k", 64).with("number_ios", "8000");
        let deep = deep.with("size", "64M").with("norandommap", "1");
        let (before, after, report) = counted_during(&daemon, &deep);
        assert_eq!((report.requests(), after.kicks), (8000, 0));
        let interrupts = after.interrupts - before.interrupts;
        assert!((1..=8000).contains(&interrupts), "{interrupts}");
        daemon.stop();
    });
}

#[test]
fn a_poll_queue_needs_no_interrupt() {
    in_guest(|| {
        run("rmmod", &["virtio_blk"]).succeeded();
        run("modprobe", &["virtio_blk", "poll_queues=1"]).succeeded();
        let options = ["--queues", "2", "--poll", "busy", "--attach", "virtio"];
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let disk = daemon.disk();
        assert_eq!(disk.attribute("queue/io_poll"), "1");
        let verify = Fio::verify(disk.node(), "4k", 8, "4M").with("hipri", "1");
        let before = daemon.snapshot().queues;
        let report = verify.run();
        let after = daemon.snapshot().queues;
        let polled = after[1].requests - before[1].requests;
        assert_eq!(polled, report.requests());
        // The driver's index, which it never moves, is passed by the very first completion.
        assert!(after[1].interrupts - before[1].interrupts <= 1);
        // More than twice around for the indexes, which count modulo 65536.
        for (depth, requests) in [(32, 150_000), (1, 30_000)] {
            let load = Fio::new(disk.node(), "randread", "4k", depth).with("hipri", "1");
            let load = load.with("size", "64M").with("norandommap", "1");
            let load = load.with("io_size", &(requests * 4096).to_string());
            let before = daemon.snapshot().queues;
            let report = load.run();
            let after = daemon.snapshot().queues;
            let polled = after[1].requests - before[1].requests;
            assert_eq!((polled, report.requests()), (requests, requests));
            // One a lap at most: a driver that loses its CPU just as its index comes round looks as if it waited.
            let interrupts = after[1].interrupts - before[1].interrupts;
            assert!(
                interrupts <= 1 + requests / 65_536,
                "depth {depth}: {interrupts}"
            );
        }
        assert_eq!(daemon.snapshot().queues[1].kicks, 0);
        daemon.stop();
        run("rmmod", &["virtio_blk"]).succeeded();
        run("modprobe", &["virtio_blk"]).succeeded();
    });
}

#[test]
fn adaptive_and_event_driven_workers_sleep_and_are_kicked() {
    in_guest(|| {
        for poll in ["adaptive", "event"] {
            let options = ["--poll", poll, "--attach", "virtio"];
            let daemon = Daemon::serve("d0", "null,size=1G", &options);
            // Longer between two requests than an adaptive worker polls.
            let load = read_one_by_one(daemon.disk().node(), 200).with("thinktime", "5000");
            let (before, after, _) = counted_during(&daemon, &load);
            let (sleeps, kicks) = (after.sleeps - before.sleeps, after.kicks - before.kicks);
            assert!((100..=500).contains(&sleeps), "{poll}: {sleeps} sleeps");
            assert!((100..=250).contains(&kicks), "{poll}: {kicks} kicks");
            daemon.stop();
        }
    });
}

#[test]
fn counters_add_up_with_what_fio_did() {
    in_guest(|| {
        let daemon = Daemon::serve("d0", "ram,size=64M", &["--attach", "virtio"]);
        let node = daemon.disk().node().to_owned();
        // Random, so that nothing is merged; 64 KiB, so that nothing is split.
        let load = Fio::new(&node, "randrw", "64k", 16).with("size", "64M");
        let (before, after, report) = counted_during(&daemon, &load);
        assert_eq!(after.requests - before.requests, report.requests());
        assert_eq!(after.bytes_read - before.bytes_read, report.bytes_read);
        assert_eq!(
            after.bytes_written - before.bytes_written,
            report.bytes_written
        );
        assert_eq!((after.errors, after.driver_faults), (0, 0));
        assert!(after.interrupts - before.interrupts <= report.requests());
        let latency = after.latency_ns;
        assert_eq!(latency.count, after.requests);
        let rising = [
            latency.min,
            latency.p50,
            latency.p90,
            latency.p99,
            latency.p999,
            latency.max,
        ];
        assert!(latency.min > 0 && rising.is_sorted(), "{latency:?}");
        assert!(latency.max < 60_000_000_000, "{latency:?}");
        daemon.stop();
    });
}

#[test]
fn lists_hold_every_daemons_devices() {
    in_guest(|| {
        let none: Vec<DeviceSnapshot> = list();
        assert_eq!(none, []);
        assert_eq!(pollux(&["list"]).succeeded(), "no device is served\n");
        let busy = ["--poll", "busy", "--attach", "vhost"];
        let second = Daemon::serve("d1", "null,size=1G", &busy);
        let first = Daemon::serve(
            "d0",
            "ram,size=64M",
            &["--queues", "2", "--attach", "virtio"],
        );
        let devices = list();
        let shown = devices.iter().map(|device| {
            let node = device.node.as_deref().unwrap_or("-");
            let driver = device.driver.as_deref().unwrap_or("-");
            [&device.name, &device.mode, driver, node].map(str::to_owned)
        });
        let node = first.disk().node().to_owned();
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                ["d0", "adaptive", "virtio", &node],
                ["d1", "busy", "vhost", "/dev/vhost-vdpa-0"],
            ]
        );
        assert_eq!(devices[0].capacity_bytes, 64 << 20);
        assert_eq!(devices[0].state, "running");
        assert_eq!(devices[1].state, "reset");
        let states = devices[0].queues.iter().map(|queue| queue.state);
        assert_eq!(states.collect::<Vec<_>>(), [QueueState::Running; 2]);
        assert_eq!(devices[1].queues[0].state, QueueState::Unused);
        first.stop();
        second.stop();
        assert_eq!(list(), []);
    });
}

fn list() -> Vec<DeviceSnapshot> {
    let printed = pollux(&["list", "--json"]).succeeded();
    serde_json::from_str(&printed).expect(&printed)
}

#[test]
fn tables_for_people_hold_the_same() {
    in_guest(|| {
        let options = ["--queues", "2", "--poll", "busy", "--attach", "virtio"];
        let daemon = Daemon::serve("d0", "ram,size=64M", &options);
        let node = daemon.disk().node().to_owned();
        Fio::verify(&node, "4k", 8, "1M").run();
        let row = |table: &str, first: &str| -> Vec<String> {
            let line = table.lines().find(|line| line.trim().starts_with(first));
            let line = line.unwrap_or_else(|| panic!("no {first} in\n{table}"));
            line.split_whitespace().map(str::to_owned).collect()
        };
        let listed = pollux(&["list"]).succeeded();
        let expected = ["d0", "running", "64M", "2", "virtio", &node, "ram,size=64M"];
        assert_eq!(row(&listed, "d0"), expected);
        let status = pollux(&["status", "d0"]).succeeded();
        assert_eq!(row(&status, "size"), ["size", "64M"]);
        assert_eq!(row(&status, "state")[1], "running");
        assert_eq!(row(&status, "0"), ["0", "0", "running", "-"]);
        assert_eq!(row(&status, "1"), ["1", "1", "running", "-"]);
        let stats = pollux(&["stats", "d0"]).succeeded();
        let queues = daemon.snapshot().queues;
        let requests: Vec<String> = queues.iter().map(|q| q.requests.to_string()).collect();
        assert_eq!(row(&stats, "requests")[1..], requests);
        assert_eq!(row(&stats, "kicks")[1..], ["0", "0"]);
        for label in ["interrupts/request", "latency p99.9 ns", "polls idle"] {
            assert!(row(&stats, label).len() >= 3, "{stats}");
        }
        daemon.stop();
    });
}
