//! `pollux serve --vhost-user`: frontends of the crate `virtio-driver`, and what makes no sense, against the real daemon.

#![deny(unsafe_code)]

mod api;
mod client;
mod comparison;
mod daemon;
mod flood;
mod frontend;
mod in_flight;
mod membership;
mod paths;
mod pause;
mod qemu;
mod sandbox;
mod scenario;
mod top;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use client::{BLOCK, Client};
use daemon::{Daemon, pollux};

/// With event indexes.
const SPLIT: u64 = 1 << 29;

/// Workers poll, and there are few CPUs: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes and reads back on every queue.
fn prove(client: &mut Client, queues: usize, seed: u8) {
    for queue in 0..queues {
        for block in 0..64 {
            let number = 100 * queue as u64 + block;
            let data = [seed ^ queue as u8 ^ block as u8; BLOCK];
            client.write(queue, number, &data);
            assert!(
                client.read(queue, number) == data,
                "queue {queue}, block {block}"
            );
        }
        client.flush(queue);
    }
}

#[test]
fn data_is_right_however_either_side_waits() {
    let _alone = alone();
    for features in [SPLIT, 0] {
        for poll in ["busy", "adaptive", "event"] {
            let options = ["--queues", "2", "--features", "event_idx", "--poll", poll];
            let daemon = Daemon::serve("ram,size=64M", &options);
            let mut client = Client::connect(daemon.socket(), features, 2);
            assert_eq!(client.capacity_bytes(), 64 << 20);
            prove(&mut client, 2, 0x5a);
            let shown = daemon.status();
            assert_eq!(shown["state"], "running", "{shown}");
            for queue in shown["queues"].as_array().expect("queues") {
                assert_eq!(queue["requests"], 129, "{shown}");
                assert_eq!(queue["errors"], 0, "{shown}");
            }
            drop(client);
            daemon.stop();
        }
    }
}

/// As with isolcpus=1 on the kernel's command line.
#[test]
fn a_worker_goes_to_a_cpu_that_nothing_goes_to_unasked() {
    let _alone = alone();
    let options = ["--cpus", "1", "--poll", "event"];
    let daemon = Daemon::serve_traced("ram,size=64M", &options, &["taskset", "-c", "0"]);
    let mut client = Client::connect(daemon.socket(), SPLIT, 1);
    prove(&mut client, 1, 3);
    let shown = daemon.status();
    assert_eq!(shown["queues"][0]["cpu"], 1, "{shown}");
    drop(client);
    daemon.stop();
}

#[test]
fn one_frontend_follows_another_on_the_same_disk() {
    let _alone = alone();
    let daemon = Daemon::serve("ram,size=64M", &["--poll", "event"]);
    let data = [7; BLOCK];
    for round in 0..5 {
        let features = if round % 2 == 0 { SPLIT } else { 0 };
        let mut client = Client::connect(daemon.socket(), features, 1);
        if round > 0 {
            assert!(client.read(0, 9) == data, "round {round}");
        }
        client.write(0, 9, &data);
        prove(&mut client, 1, round);
        client.write(0, 9, &data);
    }
    daemon.until("the queue rests", |shown| {
        shown["queues"][0]["state"] == "unused"
    });
    daemon.stop();
}

#[test]
fn what_makes_no_sense_is_hung_up_on_and_the_next_frontend_is_served() {
    let _alone = alone();
    let daemon = Daemon::serve("ram,size=64M", &[]);
    let message = |request: u32, size: u32, body: &[u8]| {
        // Version 1.
        let header = [request, 1, size].map(u32::to_ne_bytes).concat();
        [&header, body].concat()
    };
    let word = |value: u64| value.to_ne_bytes();
    for (what, bytes) in [
        ("noise", vec![0xff; 64]),
        ("no request", message(4711, 0, &[])),
        ("a size that is none", message(8, u32::MAX, &[])),
        ("a queue that is none", message(8, 8, &word(77))),
        (
            "features that were not offered",
            message(2, 8, &word(1 << 63)),
        ),
        ("an eventfd without one", message(12, 8, &word(0))),
        ("memory without files", message(5, 8, &word(1))),
        ("half a message", message(8, 8, &[1, 2])),
    ] {
        let mut stream = UnixStream::connect(daemon.socket()).expect(what);
        stream.write_all(&bytes).expect(what);
        if what == "half a message" {
            stream.shutdown(std::net::Shutdown::Write).expect(what);
        }
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect(what);
        let mut answer = Vec::new();
        let begun = Instant::now();
        // The other end closes; what it had not read resets the connection.
        let _ = stream.read_to_end(&mut answer);
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{what} is waited for"
        );
        let mut client = Client::connect(daemon.socket(), SPLIT, 1);
        prove(&mut client, 1, 3);
    }
    assert!(
        daemon.log().contains("hung up on the frontend"),
        "{}",
        daemon.log()
    );
    daemon.stop();
}

#[test]
fn a_frontend_that_stops_in_the_middle_of_a_message_is_not_waited_for() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let mut stuck = UnixStream::connect(daemon.socket()).unwrap();
    stuck.write_all(&[1, 0, 0]).unwrap();
    daemon.until("the frontend is hung up on", |shown| {
        !shown["problem"].is_null()
    });
    let mut client = Client::connect(daemon.socket(), SPLIT, 1);
    assert_eq!(client.capacity_bytes(), 1 << 30);
    assert!(client.read(0, 5) == [0; BLOCK]);
    drop(client);
    daemon.stop();
}

#[test]
fn what_does_not_go_together_is_refused_by_name() {
    let _alone = alone();
    let daemon = Daemon::serve("ram,size=64M", &[]);
    let socket = daemon.socket();
    let serve = [
        "serve",
        "--name",
        "d1",
        "--backend",
        "null,size=1G",
        "--vhost-user",
        socket,
    ];
    let taken = pollux(&daemon, &serve);
    assert_eq!(taken.status.code(), Some(1));
    let reason = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(reason.contains("another program listens there"), "{reason}");
    for option in [
        ["--attach", "virtio"],
        ["--umem", "anon"],
        ["--msg-timeout", "60"],
    ] {
        let refused = pollux(&daemon, &[&serve[..], &option].concat());
        let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(2) && reason.contains(option[0]),
            "{reason}"
        );
    }
    for (command, reason) in [
        (&["attach", "d0", "--driver", "virtio"][..], "vhost-user"),
        (
            &["resize", "d0", "2G"][..],
            "cannot be told of another size",
        ),
    ] {
        let refused = pollux(&daemon, command);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains(reason), "{text}");
    }
    let mut client = Client::connect(socket, SPLIT, 1);
    prove(&mut client, 1, 1);
    drop(client);
    daemon.stop();
}
