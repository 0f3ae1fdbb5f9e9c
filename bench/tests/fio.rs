//! fio run for real, on a file.

use std::time::Duration;

use pollux_bench::fio::{self, Pattern, Workload};
use pollux_bench::interrupt::Interrupt;

fn workload(rw: Pattern, runtime: Duration) -> Workload {
    Workload {
        rw,
        bs: "4k".to_owned(),
        iodepth: 4,
        runtime,
        ramp_time: Duration::from_millis(100),
        engine: pollux_bench::fio::Engine::IoUring,
        hipri: false,
        cpus_allowed: Vec::new(),
    }
}

/// A file on a file system with direct I/O, which a tmpfs may lack.
fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.as_file().set_len(8 << 20).unwrap();
    file
}

#[test]
fn a_file_is_measured() {
    let file = file();
    for rw in [Pattern::RandRead, Pattern::RandWrite] {
        let workload = workload(rw, Duration::from_millis(400));
        let load = fio::run(file.path(), &workload, None).unwrap();
        assert!(load.iops > 1.0 && load.requests > 0, "{load:?}");
        assert_eq!(load.errors, 0);
        let latency = load.latency_ns;
        assert!(0 < latency.p50 && latency.p50 <= latency.p99 && latency.p99 <= latency.max);
    }
}

#[test]
fn a_signal_ends_the_run_early() {
    use nix::sys::pthread::{pthread_kill, pthread_self};
    use nix::sys::signal::Signal;

    let file = file();
    let interrupt = Interrupt::install().unwrap();
    pthread_kill(pthread_self(), Signal::SIGINT).unwrap();
    let start = std::time::Instant::now();
    let workload = workload(Pattern::RandRead, Duration::from_secs(300));
    let error = fio::run(file.path(), &workload, Some(&interrupt)).unwrap_err();
    assert!(error.to_string().contains("stopped on request"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60));
}
