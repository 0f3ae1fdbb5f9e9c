//! Every way to kill a worker, and its successor, around each store of the in-flight log and each step of a
//! backend that completes in any order.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::*;
use crate::backend::{DiskOptions, Outcome, Submission, Token};
use crate::blk::Operation;
use crate::driver::BlockDriver;
use crate::inflight::{InFlightLog, kill};
use crate::stats::{LatencyRecorder, QueueCounters};

const ENTRIES: u16 = 4;
const REQUESTS: u64 = 6;
const BLOCK_BYTES: usize = 512;

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
        if self.pending.len() + 1 == usize::from(ENTRIES) {
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
fn run(features: RingFeatures, plan: Plan, kills: &[u32]) -> usize {
    let block = BlockDriver::new(ENTRIES, BLOCK_BYTES as u32, features).unwrap();
    let log = InFlightLog::anonymous(1, ENTRIES).unwrap();
    let mut driver = Driver {
        block,
        submitted: 0,
        outstanding: BTreeMap::new(),
        completed: BTreeMap::new(),
    };
    let setup = QueueSetup {
        queue: driver.block.queue.config(),
        table: driver.block.memory().table(),
    };
    let logs = !features.contains(RingFeatures::IN_ORDER);
    let mut executed = BTreeMap::new();
    log.queue(0).unwrap().begin(0);
    driver.turn();
    let mut killed = 0;
    let points = kills.iter().copied().chain([u32::MAX]);
    for (process, points) in points.enumerate() {
        let life = || {
            live(
                &setup,
                plan,
                logs.then(|| log.queue(0).unwrap()),
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
        "{plan:?} {kills:?}"
    );
    assert_eq!(
        completed.map(|(&sector, _)| sector).collect::<Vec<_>>(),
        all,
        "{plan:?} {kills:?}"
    );
    assert_eq!(
        executed.into_keys().collect::<Vec<_>>(),
        all,
        "{plan:?} {kills:?}"
    );
    killed
}

/// A process: it serves the driver until all is done.
fn live(
    setup: &QueueSetup,
    plan: Plan,
    mut log: Option<QueueLog>,
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
    let mut poller = match takes_over {
        true => Poller::take_over(setup, log.as_mut()).unwrap(),
        false => Poller::new(setup).unwrap(),
    };
    let mut backend = Counting {
        plan,
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
            in_flight: log.as_mut(),
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
fn every_kill(features: RingFeatures) -> usize {
    let mut lives = 0;
    for plan in plans() {
        for first in 0.. {
            if run(features, plan, &[first]) == 0 {
                break;
            }
            lives += 2;
            for second in 0.. {
                if run(features, plan, &[first, second]) < 2 {
                    break;
                }
                lives += 3;
            }
        }
    }
    lives
}

#[test]
fn each_request_is_completed_once_whenever_its_workers_are_killed() {
    let features = RingFeatures::EVENT_IDX | RingFeatures::INDIRECT_DESC;
    assert!(every_kill(features) > 10_000);
}

#[test]
fn each_request_is_completed_once_in_order_whenever_its_workers_are_killed() {
    let features = RingFeatures::EVENT_IDX | RingFeatures::INDIRECT_DESC | RingFeatures::IN_ORDER;
    assert!(every_kill(features) > 1_000);
}
