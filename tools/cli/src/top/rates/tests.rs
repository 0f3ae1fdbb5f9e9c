//! Rates from made-up snapshots.

use super::*;
use crate::top::fixture::device;

#[test]
fn rates_are_differences_over_the_time_between() {
    let rows = rows(&[device("d0", 2, 1000)], &[device("d0", 2, 3000)], 2.0);
    let [row] = &rows[..] else {
        panic!("{rows:?}");
    };
    let expected = Rates {
        iops: 2000.0,
        read_bytes_per_second: 4_096_000.0,
        written_bytes_per_second: 4_096_000.0,
        errors_per_second: 0.0,
        sleeps_per_second: 0.0,
        busy_share: Some(0.25),
        interrupts_per_request: Some(0.25),
    };
    assert_eq!(row.rates, Some(expected));
    let queue = row.queues[1].rates.expect("counted twice");
    assert_eq!(queue.iops, 1000.0);
    // The slowest queue's.
    assert_eq!(row.latency.p50_ns, Some(281));
    assert_eq!(row.queues[0].latency.p50_ns, Some(280));
}

#[test]
fn what_did_nothing_has_no_shares() {
    let idle = [device("d0", 1, 0)];
    let rates = rows(&idle, &idle, 1.0)[0].rates.expect("counted twice");
    assert_eq!(rates.iops, 0.0);
    assert_eq!(
        (rates.busy_share, rates.interrupts_per_request),
        (None, None)
    );
    assert_eq!(rows(&idle, &idle, 1.0)[0].latency, Latency::default());
}

#[test]
fn what_is_new_or_began_anew_has_no_rates() {
    let after = [device("d0", 2, 10)];
    assert_eq!(rows(&[], &after, 1.0)[0].rates, None);
    let restarted = rows(&[device("d0", 2, 11)], &after, 1.0);
    assert_eq!(restarted[0].rates, None);
    assert_eq!(restarted[0].queues[0].rates, None);
    // Of one queue alone.
    let mut before = device("d0", 2, 5);
    before.queues[1].sleeps = 1;
    let rows = rows(&[before], &after, 1.0);
    assert_eq!(rows[0].rates, None);
    assert!(rows[0].queues[0].rates.is_some() && rows[0].queues[1].rates.is_none());
}

#[test]
fn what_vanished_is_gone() {
    let before = [device("d0", 1, 1), device("d1", 1, 1)];
    let rows = rows(&before, &before[..1], 1.0);
    let states: Vec<_> = rows.iter().map(|row| (&*row.name, &*row.state)).collect();
    assert_eq!(states, [("d0", "running"), ("d1", GONE)]);
    assert!(rows[1].rates.is_none() && rows[1].queues.is_empty() && rows[1].is_gone());
}

#[test]
fn no_time_gives_no_rates() {
    let rows = rows(&[device("d0", 1, 1)], &[device("d0", 1, 2)], 0.0);
    assert_eq!(rows[0].rates, None);
}
