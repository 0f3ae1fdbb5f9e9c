//! Whole runs, short ones: what is counted fits together, whatever the ring.

use std::sync::Mutex;

use pollux_dataplane::backend::{DiskOptions, Null};

use super::*;
use crate::scenario::{Format, parse};

/// Two threads a run poll: one run at a time.
static ALONE: Mutex<()> = Mutex::new(());

const TEXT: &str = "name = \"test\"
transport = \"loopback\"
backend = \"null,size=1G\"
rw = \"randrw\"
bs = \"4k\"
ramp_time_ms = 1
runtime_ms = 150
rounds = 2
[[loads]]
kind = \"closed\"
iodepths = [1, 16]
[[loads]]
kind = \"open\"
rates = [0.8]
";

fn null() -> Null {
    let options = DiskOptions {
        size_bytes: 64 << 20,
        ..DiskOptions::default()
    };
    Null::new(&options, false).unwrap()
}

pub(crate) fn measured(change: impl FnOnce(&mut Scenario)) -> Result<Run, RunError> {
    let mut scenario = parse("test.toml", TEXT).unwrap();
    change(&mut scenario);
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    run(&scenario, Source::Disk(&null()))
}

#[test]
fn what_client_and_worker_count_fits_together_on_every_ring() {
    for format in [Format::Split, Format::Packed] {
        for (indirect, in_order) in [(false, false), (true, false), (true, true)] {
            let run = measured(|scenario| {
                scenario.rounds = 1;
                scenario.ring.format = format;
                scenario.ring.indirect = indirect;
                scenario.ring.in_order = in_order;
            });
            let run = run.unwrap();
            let names: Vec<String> = run.points.iter().map(|it| it.load.to_string()).collect();
            assert_eq!(names, ["QD 1", "QD 16", "open 80 %"]);
            for point in &run.points {
                let Point { worker, .. } = point;
                // The client looks at the clock a little after the worker's counters.
                let apart = worker.requests.abs_diff(point.requests);
                assert!(apart <= point.requests / 2 + 600, "{point:?}");
                let bytes = worker.bytes_read + worker.bytes_written;
                assert!(
                    bytes.abs_diff(worker.requests * 4096) <= 600 * 4096,
                    "{point:?}"
                );
                // On a machine that is busy with others there may be few.
                let is_mixed = worker.bytes_read > 0 && worker.bytes_written > 0;
                assert!(is_mixed || worker.requests < 20, "{point:?}");
                assert_eq!((point.errors, worker.errors, worker.kicks), (0, 0, 0));
                assert!(point.latency_ns.p50 >= 50, "{point:?}");
            }
        }
    }
}

#[test]
fn rounds_are_complete_and_the_result_is_read_back() {
    let run = measured(|_| {}).unwrap();
    assert_eq!(
        (run.points.len(), run.ping_pong.len(), run.summary.len()),
        (6, 2, 3)
    );
    assert_eq!((run.schema_version, &run.ending), (1, &Ending::Complete));
    // Tests are not optimized.
    assert!(!run.clean);
    let text = serde_json::to_string(&run).unwrap();
    let again: Run = serde_json::from_str(&text).unwrap();
    let raw = |run: &Run| {
        run.points
            .iter()
            .map(|it| it.histogram.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(raw(&again), raw(&run));
    assert_eq!(
        (again.scenario, again.environment),
        (run.scenario.clone(), run.environment.clone())
    );
    let shown = run.to_string();
    assert!(
        shown.contains("QD 16") && shown.contains("not clean"),
        "{shown}"
    );
    let PointLoad::Open { rate_iops, .. } = run.points[2].load else {
        panic!("{:?}", run.points[2]);
    };
    let best = run.points[0].iops.max(run.points[1].iops);
    assert!(
        (rate_iops / best - 0.8).abs() < 1e-9,
        "{rate_iops} of {best}"
    );
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_rounds_that_it_lacks() {
    let one = measured(|scenario| scenario.rounds = 1).unwrap();
    let mut scenario = one.scenario.clone();
    scenario.rounds = 3;
    let resumed = |scenario: &Scenario, earlier: &Run| {
        let _alone = ALONE
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        resume(scenario, Source::Disk(&null()), earlier.clone())
    };
    let run = resumed(&scenario, &one).unwrap();
    assert_eq!(run.ending, Ending::Complete);
    assert_eq!(run.points[..3], one.points);
    let rounds: Vec<u32> = run.points.iter().map(|it| it.round).collect();
    assert_eq!(rounds, [1, 1, 1, 2, 2, 2, 3, 3, 3]);
    let trips: Vec<u32> = run.ping_pong.iter().map(|it| it.round).collect();
    assert_eq!(trips, [1, 2, 3]);
    assert_eq!(run.started_unix_s, one.started_unix_s);
    let twins = run
        .preflight
        .iter()
        .filter(|it| it.what == Spoiler::DebugBuild);
    assert_eq!(twins.count(), 1);

    let refused = |scenario: &Scenario, earlier: &Run| {
        let error = resumed(scenario, earlier).unwrap_err();
        assert!(matches!(error, RunError::Resume(_)), "{error}");
        error.to_string()
    };
    assert!(refused(&scenario, &run).contains("all of its 3 rounds"));
    let mut other = scenario.clone();
    (other.bs, other.ring.indirect) = ("8k".to_owned(), true);
    let text = refused(&other, &one);
    assert!(text.contains("another bs, ring;"), "{text}");
    let mut elsewhere = one.clone();
    elsewhere.environment.kernel = "5.4.0".to_owned();
    assert!(refused(&scenario, &elsewhere).contains("another kernel;"));
    elsewhere.environment = one.environment.clone();
    elsewhere.cpus.client += 7;
    assert!(refused(&scenario, &elsewhere).contains("another cpus;"));
}

#[test]
fn a_disk_that_does_not_suit_the_scenario_is_refused_before_anything_runs() {
    let error = measured(|scenario| scenario.bs = "3k".to_owned());
    assert!(error.is_ok(), "512 bytes are a block");
    let large = DiskOptions {
        size_bytes: 1 << 20,
        block_bytes: 4096,
        read_only: true,
        ..DiskOptions::default()
    };
    let large = Null::new(&large, false).unwrap();
    let refused = |change: fn(&mut Scenario)| {
        let mut scenario = parse("test.toml", TEXT).unwrap();
        change(&mut scenario);
        run(&scenario, Source::Disk(&large))
            .unwrap_err()
            .to_string()
    };
    assert!(refused(|_| {}).contains("read-only"));
    assert!(refused(|scenario| scenario.bs = "512".to_owned()).contains("no multiple"));
    let unusable = measured(|scenario| scenario.cpus.client = Some(9999));
    assert!(matches!(unusable, Err(RunError::Cpu(_))), "{unusable:?}");
}
