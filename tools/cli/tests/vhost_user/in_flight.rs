//! A frontend that keeps the in-flight log: what a killed daemon had in flight is finished by the next one, once.

use std::collections::BTreeSet;
use std::time::Duration;

use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::ring::RingFeatures;

use super::alone;
use super::daemon::Daemon;
use super::frontend::{BLOCK, Connection, SIZE, pattern};

#[test]
fn what_a_killed_daemon_had_in_flight_is_finished_once() {
    let _alone = alone();
    for features in [
        RingFeatures::EVENT_IDX,
        RingFeatures::EVENT_IDX | RingFeatures::INDIRECT_DESC,
        RingFeatures::EVENT_IDX | RingFeatures::RING_PACKED,
    ] {
        let folder = tempfile::tempdir().unwrap();
        // They come back in another order than they were taken in.
        let disk = folder.path().join("disk");
        let backend = format!(
            "delay,latency=5ms..400ms:ram,size=8M,path={}",
            disk.display()
        );
        let offered = ["--features", "event_idx,indirect_desc,ring_packed"];
        let mut daemon = Daemon::serve(&backend, &offered);
        let mut driver = BlockDriver::new(SIZE, BLOCK as u32, features).unwrap();
        let (mut log, mut done) = (None, BTreeSet::new());
        let mut connection = Connection::logged(&daemon, &mut driver, &mut log);
        let mut tickets = Vec::new();
        for index in 0..20 {
            let ticket = driver.write(8 * index, &pattern(index as u16)).unwrap();
            tickets.push(ticket);
        }
        driver.queue.publish();
        for count in [4, 8, 12] {
            connection.until(count, &mut driver, &mut done);
            daemon.replace_killed();
            connection = Connection::logged(&daemon, &mut driver, &mut log);
        }
        connection.until(tickets.len(), &mut driver, &mut done);
        assert_eq!(done, tickets.iter().copied().collect());
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(
            driver.poll(),
            None,
            "{features:?}: more came than was asked for"
        );
        // Each where it belongs, and the queue goes on.
        let read = |index: u64| driver.read(8 * index, BLOCK as u32).unwrap();
        let tickets: Vec<u16> = (0..20).map(read).collect();
        driver.queue.publish();
        connection.until(tickets.len(), &mut driver, &mut BTreeSet::new());
        for (index, ticket) in (0..).zip(tickets) {
            assert!(driver.data(ticket) == pattern(index), "block {index}");
        }
        drop(connection);
        daemon.stop();
    }
}
