//! fio, with direct I/O through io_uring.

use serde_json::Value;

use super::{Output, PATIENCE, Running};

/// A load on a disk, to be run.
#[derive(Clone, Debug)]
pub(crate) struct Fio(Vec<String>);

/// What fio counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

impl Report {
    pub(crate) fn requests(self) -> u64 {
        self.reads + self.writes
    }
}

impl Fio {
    /// A load of `rw` in blocks of `block`, `depth` at a time.
    pub(crate) fn new(node: &str, rw: &str, block: &str, depth: u32) -> Self {
        let load = Self(
            ["--name=test", "--output-format=json", "--ioengine=io_uring"]
                .map(ToOwned::to_owned)
                .into(),
        );
        load.with("direct", "1")
            .with("filename", node)
            .with("rw", rw)
            .with("bs", block)
            .with("iodepth", &depth.to_string())
    }

    /// Writes two parts of `size` in random order from both CPUs, so that both queues are used, then
    /// reads them back and compares checksums.
    pub(crate) fn verify(node: &str, block: &str, depth: u32, size: &str) -> Self {
        Self::new(node, "randwrite", block, depth)
            .with("size", size)
            .with("offset_increment", size)
            .with("numjobs", "2")
            .with("cpus_allowed", "0,1")
            .with("cpus_allowed_policy", "split")
            .with("group_reporting", "1")
            .with("verify", "crc32c")
            .with("verify_fatal", "1")
            .with("verify_state_save", "0")
    }

    /// Adds an option.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.0.push(format!("--{key}={value}"));
        self
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Running {
        let args: Vec<&str> = self.0.iter().map(String::as_str).collect();
        Running::program("fio", &args)
    }

    /// Runs it to its end, which must be a success.
    pub(crate) fn run(&self) -> Report {
        report(self.start().wait(3 * PATIENCE))
    }
}

/// Returns what a fio that succeeded counted.
pub(crate) fn report(output: Output) -> Report {
    let printed = output.succeeded();
    let json = printed.find('{').map_or("", |start| &printed[start..]);
    let report: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {printed}"));
    let jobs = report["jobs"].as_array().expect("jobs");
    let sum = |direction: &str, key: &str| {
        let numbers = jobs.iter().map(|job| job[direction][key].as_u64());
        numbers.map(|n| n.expect("a number")).sum()
    };
    assert!(jobs.iter().all(|job| job["error"] == 0), "{printed}");
    Report {
        reads: sum("read", "total_ios"),
        writes: sum("write", "total_ios"),
        bytes_read: sum("read", "io_bytes"),
        bytes_written: sum("write", "io_bytes"),
    }
}
