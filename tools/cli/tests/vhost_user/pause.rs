//! A device that a person pauses while a frontend uses it.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::ring::RingFeatures;
use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;

use super::alone;
use super::client::Client;
use super::daemon::{Daemon, pollux};
use super::frontend::{BLOCK, Connection, SIZE, pattern, share};

/// Long enough for a daemon that serves to complete anything.
const A_WHILE: Duration = Duration::from_millis(200);
const OFFERED: &[&str] = &["--features", "event_idx,ring_packed", "--poll"];
const SPLIT: RingFeatures = RingFeatures::EVENT_IDX;

fn driver(features: RingFeatures) -> BlockDriver {
    BlockDriver::new(SIZE, BLOCK as u32, features).unwrap()
}

fn serve(poll: &str) -> Daemon {
    // They come back in another order than they were taken in.
    Daemon::serve(
        "delay,latency=1ms..20ms:ram,size=8M",
        &[OFFERED, &[poll]].concat(),
    )
}

/// Returns what `command` for d0 says, and whether it was done.
fn tell(daemon: &Daemon, command: &str) -> (bool, String) {
    let output = pollux(daemon, &[command, "d0"]);
    (
        output.status.success(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Does `command`, after which the device is in `state`.
fn is_then(daemon: &Daemon, command: &str, state: &str) {
    let (done, said) = tell(daemon, command);
    assert!(done, "{command}: {said}\n{}", daemon.log());
    let shown = daemon.status();
    assert_eq!(shown["state"], state, "{command}: {shown}");
}

/// Asks for blocks from `first` to before `end` to be written.
fn write(driver: &mut BlockDriver, first: u16, end: u16) {
    for block in first..end {
        let sector = 8 * u64::from(block);
        driver.write(sector, &pattern(block)).expect("room");
    }
    driver.queue.publish();
}

/// Reads all blocks before `end` back, as many at a time as there is room for.
fn prove(connection: &Connection, driver: &mut BlockDriver, end: u16) {
    for first in (0..end).step_by(10) {
        let mut read = |block: u16| driver.read(8 * u64::from(block), BLOCK as u32);
        let blocks = first..end.min(first + 10);
        let tickets: Vec<u16> = blocks.map(|it| read(it).expect("room")).collect();
        driver.queue.publish();
        connection.until(tickets.len(), driver, &mut BTreeSet::new());
        for (block, ticket) in (first..).zip(tickets) {
            assert!(driver.data(ticket) == pattern(block), "block {block}");
        }
    }
}

#[test]
fn a_disk_stands_still_with_requests_under_way_and_goes_on() {
    let _alone = alone();
    for features in [SPLIT, SPLIT | RingFeatures::RING_PACKED] {
        for (poll, is_logged) in [("busy", false), ("event", false), ("adaptive", true)] {
            let daemon = serve(poll);
            let mut driver = driver(features);
            let connection = match is_logged {
                true => Connection::logged(&daemon, &mut driver, &mut None),
                false => Connection::new(&daemon, &mut driver),
            };
            let mut done = BTreeSet::new();
            write(&mut driver, 0, 10);
            connection.until(2, &mut driver, &mut done);
            is_then(&daemon, "pause", "paused");
            // What was in flight is finished, and nothing else is taken.
            connection.until(10, &mut driver, &mut done);
            done.clear();
            write(&mut driver, 10, 20);
            connection.kick();
            sleep(A_WHILE);
            assert_eq!(driver.poll(), None, "{features:?}, {poll}");
            is_then(&daemon, "pause", "paused");
            assert_eq!(driver.poll(), None, "{features:?}, {poll}");
            is_then(&daemon, "resume", "running");
            connection.until(10, &mut driver, &mut done);
            is_then(&daemon, "resume", "running");
            prove(&connection, &mut driver, 20);
            drop(connection);
            daemon.stop();
        }
    }
}

#[test]
fn a_disk_in_a_pool_stands_still_while_another_is_served() {
    let _alone = alone();
    let text = "[[pool]]
name = \"small\"
cpus = [0]
[defaults]
pool = \"small\"
[[device]]
name = \"d0\"
backend = \"delay,latency=1ms..20ms:ram,size=8M\"
vhost_user = \"FOLDER/d0.vhost\"
[[device]]
name = \"d1\"
backend = \"ram,size=8M\"
vhost_user = \"FOLDER/d1.vhost\"
";
    let daemon = Daemon::configured(text);
    let mut driver = driver(SPLIT);
    let connection = Connection::new(&daemon, &mut driver);
    let mut other = Client::connect(&daemon.at("d1.vhost"), 0, 1);
    let mut done = BTreeSet::new();
    write(&mut driver, 0, 10);
    connection.until(2, &mut driver, &mut done);
    is_then(&daemon, "pause", "paused");
    connection.until(10, &mut driver, &mut done);
    done.clear();
    write(&mut driver, 10, 20);
    connection.kick();
    super::prove(&mut other, 1, 4);
    assert_eq!(driver.poll(), None);
    is_then(&daemon, "resume", "running");
    connection.until(10, &mut driver, &mut done);
    prove(&connection, &mut driver, 20);
    drop((connection, other));
    daemon.stop();
}

#[test]
fn what_the_frontend_says_meanwhile_counts_from_when_it_goes_on() {
    let _alone = alone();
    let daemon = serve("event");
    let mut driver = driver(SPLIT);
    let mut connection = Connection::new(&daemon, &mut driver);
    let mut done = BTreeSet::new();
    write(&mut driver, 0, 10);
    connection.until(10, &mut driver, &mut done);
    is_then(&daemon, "pause", "paused");
    done.clear();
    write(&mut driver, 10, 20);
    share(&connection.frontend, &mut driver);
    connection.replace_kick();
    for is_enabled in [false, true] {
        let frontend = &mut connection.frontend;
        frontend.set_vring_enable(0, is_enabled).unwrap();
        connection.kick();
        sleep(A_WHILE);
        assert_eq!(driver.poll(), None, "enabled: {is_enabled}");
    }
    is_then(&daemon, "resume", "running");
    connection.until(10, &mut driver, &mut done);
    // One that was disabled meanwhile stays so.
    is_then(&daemon, "pause", "paused");
    connection.frontend.set_vring_enable(0, false).unwrap();
    is_then(&daemon, "resume", "running");
    done.clear();
    write(&mut driver, 20, 30);
    connection.kick();
    sleep(A_WHILE);
    assert_eq!(driver.poll(), None);
    connection.frontend.set_vring_enable(0, true).unwrap();
    connection.until(10, &mut driver, &mut done);
    prove(&connection, &mut driver, 30);
    drop(connection);
    daemon.stop();
}

#[test]
fn a_queue_that_rests_tells_where_it_stands() {
    let _alone = alone();
    // The packed one has not come round, and has its wrap counters in the upper bits.
    const WRAP: u32 = 0x8000_8000;
    for (features, wrap) in [(SPLIT, 0), (SPLIT | RingFeatures::RING_PACKED, WRAP)] {
        let daemon = serve("event");
        let mut driver = driver(features);
        let mut connection = Connection::new(&daemon, &mut driver);
        let mut done = BTreeSet::new();
        write(&mut driver, 0, 10);
        connection.until(10, &mut driver, &mut done);
        is_then(&daemon, "pause", "paused");
        done.clear();
        write(&mut driver, 10, 14);
        let base = connection.frontend.get_vring_base(0).unwrap();
        // A request takes three descriptors of a packed ring.
        let expected = if wrap == 0 { 10 } else { wrap | 30 << 16 | 30 };
        assert_eq!(base, expected, "{base:#x}");
        is_then(&daemon, "resume", "running");
        connection.kick();
        sleep(A_WHILE);
        assert_eq!(driver.poll(), None, "it was stopped");
        connection.frontend.set_vring_base(0, base as u16).unwrap();
        connection.replace_kick();
        connection.until(4, &mut driver, &mut done);
        prove(&connection, &mut driver, 14);
        drop(connection);
        daemon.stop();
    }
}

#[test]
fn a_frontend_that_leaves_ends_the_pause() {
    let _alone = alone();
    let daemon = serve("event");
    let (done, said) = tell(&daemon, "pause");
    assert!(!done && said.contains("nothing to pause"), "{said}");
    is_then(&daemon, "resume", "reset");
    let mut first = driver(SPLIT);
    let connection = Connection::new(&daemon, &mut first);
    write(&mut first, 0, 10);
    connection.until(10, &mut first, &mut BTreeSet::new());
    is_then(&daemon, "pause", "paused");
    drop(connection);
    daemon.until("the frontend is gone", |shown| shown["state"] == "reset");
    let mut next = driver(SPLIT);
    let connection = Connection::new(&daemon, &mut next);
    assert_eq!(daemon.status()["state"], "running");
    prove(&connection, &mut next, 10);
    drop(connection);
    daemon.stop();
}

#[test]
fn storage_that_does_not_finish_keeps_a_disk_from_standing_still() {
    let _alone = alone();
    let backend = "delay,write_latency=3s:ram,size=8M";
    let daemon = Daemon::serve(backend, &[]);
    let mut driver = driver(SPLIT);
    let connection = Connection::new(&daemon, &mut driver);
    write(&mut driver, 0, 2);
    connection.kick();
    daemon.until("they are in flight", |shown| {
        shown["queues"][0]["in_flight"] == 2
    });
    let (done, said) = tell(&daemon, "pause");
    assert!(!done && said.contains("served on"), "{said}");
    assert_eq!(daemon.status()["state"], "running");
    connection.until(2, &mut driver, &mut BTreeSet::new());
    prove(&connection, &mut driver, 2);
    drop(connection);
    daemon.stop();
}
