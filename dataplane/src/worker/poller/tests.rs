//! Every way to kill a worker, and its successor, around each store of the in-flight log and each step of a
//! backend that completes in any order.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::*;
use crate::backend::{DiskOptions, Outcome, Submission, Token};
use crate::blk::Operation;
use crate::driver::BlockDriver;
use crate::inflight::InFlightLog;
use crate::mem::kill;
use crate::stats::{LatencyRecorder, QueueCounters};

const REQUESTS: u64 = 6;
const BLOCK_BYTES: usize = 512;

/// A ring, and what its driver does with it.
#[derive(Clone, Copy, Debug)]
struct Ring {
    features: RingFeatures,
    entries: u16,
}

/// Which of what is pending completes next.
#[derive(Clone, Copy, Debug)]
enum Order {
    Oldest,
    Newest,
    Turns,
}

/// How a backend behaves.
#[derive(Clone, Copy, Debug)]
struct Plan {
    order: Order,
    /// Completions of one pass.
    burst: usize,
}

/// A backend whose executions are counted by sector, over all processes.
struct Counting<'disk> {
    plan: Plan,
    /// It has room for fewer than this.
    room: usize,
    executed: &'disk mut BTreeMap<u64, u32>,
    pending: Vec<(Token, u64)>,
    turn: usize,
    left: usize,
}

impl BackendQueue for Counting<'_> {
    fn submit(&mut self, token: Token, operation: Operation<'_, '_>) -> Submission {
        let Operation::Write { range, .. } = operation else {
            panic!("only writes are submitted");
        };
        if self.pending.len() + 1 == self.room {
            return Submission::Busy;
        }
        kill::point();
        self.pending.push((token, range.first));
        Submission::Pending
    }

    fn commit(&mut self) {
        self.left = self.plan.burst;
    }

    fn complete(&mut self) -> Option<(Token, Outcome)> {
        if self.pending.is_empty() || self.left == 0 {
            self.left = self.plan.burst;
            return None;
        }
        self.left -= 1;
        self.turn += 1;
        let last = self.pending.len() - 1;
        let (token, sector) = self.pending.remove(match self.plan.order {
            Order::Oldest => 0,
            Order::Newest => last,
            Order::Turns => self.turn % 2 * last,
        });
        kill::point();
        *self.executed.entry(sector).or_default() += 1;
        kill::point();
        Some((token, Outcome::Done))
    }

    fn in_flight(&self) -> usize {
        self.pending.len()
    }
}

/// The driver, which outlives every worker.
struct Driver {
    block: BlockDriver,
    submitted: u64,
    /// The sector of each ticket that is outstanding.
    outstanding: BTreeMap<u16, u64>,
    completed: BTreeMap<u64, u32>,
}

impl Driver {
    /// Takes back what is done and fills the ring again.
    fn turn(&mut self) {
        while let Some(answer) = self.block.poll() {
            assert_eq!(answer.status, 0);
            let sector = self.outstanding.remove(&answer.ticket);
            let sector = sector.expect("a request that is outstanding");
            *self.completed.entry(sector).or_default() += 1;
        }
        while self.submitted < REQUESTS
            && let Some(ticket) = self.block.write(self.submitted, &[7; BLOCK_BYTES])
        {
            self.outstanding.insert(ticket, self.submitted);
            self.submitted += 1;
        }
        self.block.queue.publish();
    }
}

/// One process after another over the same ring and log, the n-th killed after `kills[n]` points. Returns how
/// many of them were killed.
fn run(ring: Ring, plan: Plan, kills: &[u32]) -> usize {
    let block = BlockDriver::new(ring.entries, BLOCK_BYTES as u32, ring.features).unwrap();
    let log = InFlightLog::anonymous(1, ring.entries).unwrap();
    let mut driver = Driver {
        block,
        submitted: 0,
        outstanding: BTreeMap::new(),
        completed: BTreeMap::new(),
    };
    let setup = QueueSetup {
        queue: driver.block.queue.config(),
        table: driver.block.memory().table(),
        write_through: false,
    };
    let mut executed = BTreeMap::new();
    driver.turn();
    let mut killed = 0;
    let points = kills.iter().copied().chain([u32::MAX]);
    for (process, points) in points.enumerate() {
        let life = || {
            live(
                &setup,
                plan,
                log.queue(0).unwrap(),
                process > 0,
                &mut driver,
                &mut executed,
            )
        };
        match kill::after(points, life) {
            None => killed += 1,
            Some(()) => break,
        }
    }
    let all: Vec<u64> = (0..REQUESTS).collect();
    let completed = driver.completed.iter();
    assert!(
        completed.clone().all(|(_, &times)| times == 1),
        "{ring:?} {plan:?} {kills:?}"
    );
    assert_eq!(
        completed.map(|(&sector, _)| sector).collect::<Vec<_>>(),
        all,
        "{ring:?} {plan:?} {kills:?}"
    );
    assert_eq!(
        executed.into_keys().collect::<Vec<_>>(),
        all,
        "{ring:?} {plan:?} {kills:?}"
    );
    killed
}

/// A process: it serves the driver until all is done.
fn live(
    setup: &QueueSetup,
    plan: Plan,
    mut log: QueueLog,
    takes_over: bool,
    driver: &mut Driver,
    executed: &mut BTreeMap<u64, u32>,
) {
    let geometry = DiskOptions {
        size_bytes: 1 << 20,
        ..DiskOptions::default()
    };
    let geometry = geometry.geometry().unwrap();
    let counters = QueueCounters::default();
    let mut latency = LatencyRecorder::new(quanta::Clock::new(), NonZeroU32::MAX);
    let mut poller = if takes_over {
        Poller::take_over(setup, Some(&mut log)).unwrap()
    } else {
        let poller = Poller::new(setup).unwrap();
        poller.begin(&mut log);
        poller
    };
    let mut backend = Counting {
        plan,
        room: usize::from(setup.queue.size),
        executed,
        pending: Vec::new(),
        turn: 0,
        left: plan.burst,
    };
    for _ in 0..1000 {
        driver.turn();
        if driver.completed.len() as u64 == REQUESTS {
            return;
        }
        let mut records = Records {
            counters: &counters,
            latency: &mut latency,
            in_flight: Some(&mut log),
        };
        poller.poll_once(&mut backend, &geometry, &mut records);
    }
    panic!("requests are lost: {:?}", driver.outstanding);
}

fn plans() -> impl Iterator<Item = Plan> {
    [Order::Oldest, Order::Newest, Order::Turns]
        .into_iter()
        .flat_map(|order| [1, 2, 4].map(|burst| Plan { order, burst }))
}

/// Kills at every point, and the successor at every point. Returns how many lives there were.
fn every_kill(features: RingFeatures, entries: u16) -> usize {
    let ring = Ring { features, entries };
    let mut lives = 0;
    for plan in plans() {
        for first in 0.. {
            if run(ring, plan, &[first]) == 0 {
                break;
            }
            lives += 2;
            for second in 0.. {
                if run(ring, plan, &[first, second]) < 2 {
                    break;
                }
                lives += 3;
            }
        }
    }
    lives
}

const FEATURES: RingFeatures = RingFeatures::EVENT_IDX.union(RingFeatures::INDIRECT_DESC);

#[test]
fn each_request_is_completed_once_whenever_its_workers_are_killed() {
    let lives = every_kill(FEATURES, 4);
    assert!(lives > 10_000, "{lives}");
}

#[test]
fn each_request_is_completed_once_in_order_whenever_its_workers_are_killed() {
    let lives = every_kill(FEATURES | RingFeatures::IN_ORDER, 4);
    assert!(lives > 1_000, "{lives}");
}

#[test]
fn each_request_of_a_packed_ring_is_completed_once_whenever_its_workers_are_killed() {
    let lives = every_kill(FEATURES | RingFeatures::RING_PACKED, 4);
    assert!(lives > 10_000, "{lives}");
}

#[test]
fn each_request_of_a_packed_ring_is_completed_once_in_order_whenever_its_workers_are_killed() {
    let features = FEATURES | RingFeatures::RING_PACKED | RingFeatures::IN_ORDER;
    let lives = every_kill(features, 4);
    assert!(lives > 1_000, "{lives}");
}

/// A chain of three takes several places of the ring, and of the log.
#[test]
fn direct_chains_of_a_packed_ring_are_taken_over_too() {
    let features = RingFeatures::EVENT_IDX | RingFeatures::RING_PACKED;
    let lives = every_kill(features, 8);
    assert!(lives > 1_000, "{lives}");
}
