//! Runs fio on a block device and returns what it measured.

mod report;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cpus;
use crate::interrupt::Interrupt;
use crate::load::LoadResult;
use crate::process::{self, ProcessError};
use crate::tool::{self, FIO, ToolError};

/// Time for fio to start and report on a slow, emulated machine.
const GRACE: Duration = Duration::from_secs(60);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum FioError {
    /// fio is not installed.
    #[error(transparent)]
    Missing(#[from] ToolError),
    /// fio could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// There is nothing to load.
    #[error("{0}: no such device: {1}; look at `lsblk`")]
    NoDevice(String, std::io::Error),
    /// fio ran and failed.
    #[error("fio on {node}: ended with {status}: {last_words}; run it by hand: {command}")]
    Failed {
        /// The block device.
        node: String,
        /// How it ended.
        status: String,
        /// What it said.
        last_words: String,
        /// The command line.
        command: String,
    },
    /// The user asked to stop.
    #[error("fio on {0}: stopped on request; start again to measure")]
    Interrupted(String),
    /// fio's report is not what versions 3.x write.
    #[error("fio's report: {0}; use fio 3.19 or newer")]
    Report(String),
}

/// The access pattern, by fio's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Sequential reads.
    Read,
    /// Sequential writes.
    Write,
    /// Random reads.
    RandRead,
    /// Random writes.
    RandWrite,
}

impl Pattern {
    const ALL: [(&str, Self); 4] = [
        ("read", Self::Read),
        ("write", Self::Write),
        ("randread", Self::RandRead),
        ("randwrite", Self::RandWrite),
    ];

    fn only_reads(self) -> bool {
        matches!(self, Self::Read | Self::RandRead)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known.map(|(_, pattern)| *pattern).ok_or_else(|| {
            format!("{text}: unknown pattern; use read, write, randread or randwrite")
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL
            .iter()
            .find(|(_, pattern)| pattern == self)
            .map_or("", |(n, _)| n);
        f.write_str(name)
    }
}

/// How fio submits requests, by its own names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Block devices.
    #[default]
    IoUring,
    /// Characters devices of NVMe namespaces, `/dev/ngXnY`: commands passed through.
    IoUringCmd,
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "io_uring" => Ok(Self::IoUring),
            "io_uring_cmd" => Ok(Self::IoUringCmd),
            _ => Err(format!(
                "{text}: unknown engine; use io_uring or io_uring_cmd"
            )),
        }
    }
}

impl Engine {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::IoUring => &["--ioengine=io_uring", "--direct=1"],
            Self::IoUringCmd => &["--ioengine=io_uring_cmd", "--cmd_type=nvme"],
        }
    }
}

/// One fio job on a device: io_uring, direct, for a fixed time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Access pattern.
    pub rw: Pattern,
    /// Block size as fio writes it, for example `4k`.
    pub bs: String,
    /// Requests kept in flight.
    pub iodepth: u32,
    /// Measured time.
    pub runtime: Duration,
    /// Load before the measured time.
    pub ramp_time: Duration,
    /// How requests are submitted.
    pub engine: Engine,
    /// Completions are polled for (needs a queue with poll support).
    pub hipri: bool,
    /// CPUs that fio may use; empty for all.
    pub cpus_allowed: Vec<usize>,
}

impl Workload {
    fn arguments(&self, node: &Path) -> Vec<String> {
        let mut arguments = vec![
            "--name=pollux".to_owned(),
            format!("--filename={}", node.display()),
            format!("--rw={}", self.rw),
            format!("--bs={}", self.bs),
            format!("--iodepth={}", self.iodepth),
            "--time_based".to_owned(),
            format!("--runtime={}ms", self.runtime.as_millis()),
            format!("--ramp_time={}ms", self.ramp_time.as_millis()),
            // Offsets are drawn without a map of blocks already read: less work beside the I/O.
            "--norandommap".to_owned(),
            "--thread".to_owned(),
            // An I/O error is counted and the run goes on.
            "--continue_on_error=io".to_owned(),
            "--lat_percentiles=1".to_owned(),
            "--clat_percentiles=0".to_owned(),
            "--percentile_list=50:90:99:99.9".to_owned(),
            "--output-format=json".to_owned(),
        ];
        arguments.extend(self.engine.arguments().iter().map(|&it| it.to_owned()));
        if self.rw.only_reads() {
            arguments.push("--readonly".to_owned());
        }
        if self.hipri {
            arguments.push("--hipri".to_owned());
        }
        if !self.cpus_allowed.is_empty() {
            arguments.push(format!("--cpus_allowed={}", cpus::join(&self.cpus_allowed)));
        }
        arguments
    }
}

/// Puts `workload` on the block device `node` and returns what fio measured.
///
/// # Errors
/// fio is missing, fails, is stopped through `interrupt`, or reports no request at all.
pub fn run(
    node: &Path,
    workload: &Workload,
    interrupt: Option<&Interrupt>,
) -> Result<LoadResult, FioError> {
    let name = node.display().to_string();
    // fio would make a file of that name, were it to write.
    fs::metadata(node).map_err(|e| FioError::NoDevice(name.clone(), e))?;
    let mut command = Command::new(FIO.find()?);
    command.args(workload.arguments(node));
    let shown = format!("{command:?}").replace('"', "");
    let limit = workload.ramp_time + workload.runtime + GRACE;
    let finished = process::run(command, &workload.cpus_allowed, limit, interrupt)?;
    match finished.status {
        Some(status) if status.success() => report::parse(&finished.stdout, workload.rw),
        None if interrupt.is_some_and(Interrupt::requested) => Err(FioError::Interrupted(name)),
        status => Err(FioError::Failed {
            node: name,
            status: status.map_or(format!("no result in {} s", limit.as_secs()), |s| {
                s.to_string()
            }),
            last_words: finished.last_words,
            command: shown,
        }),
    }
}

/// fio's own version line, where it is installed.
pub fn version() -> Option<String> {
    tool::version(&FIO.find().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            rw: Pattern::RandRead,
            bs: "4k".to_owned(),
            iodepth: 4,
            runtime: Duration::from_millis(400),
            ramp_time: Duration::from_millis(100),
            engine: Engine::IoUring,
            hipri: false,
            cpus_allowed: Vec::new(),
        }
    }

    #[test]
    fn patterns_are_written_as_they_are_read() {
        for (name, pattern) in Pattern::ALL {
            assert_eq!(name.parse::<Pattern>().unwrap(), pattern);
            assert_eq!(pattern.to_string(), name);
            assert_eq!(serde_json::to_value(pattern).unwrap(), name);
        }
        assert!(
            "randrw"
                .parse::<Pattern>()
                .unwrap_err()
                .contains("randread")
        );
    }

    #[test]
    fn options_follow_the_workload() {
        let mut workload = workload();
        let plain = workload.arguments(Path::new("/dev/vda"));
        assert!(plain.contains(&"--filename=/dev/vda".to_owned()));
        assert!(plain.contains(&"--readonly".to_owned()));
        assert!(plain.contains(&"--direct=1".to_owned()));
        assert!(
            !plain
                .iter()
                .any(|a| a == "--hipri" || a.starts_with("--cpus_allowed"))
        );
        workload.rw = Pattern::RandWrite;
        workload.hipri = true;
        workload.engine = Engine::IoUringCmd;
        workload.cpus_allowed = vec![0, 2];
        let polled = workload.arguments(Path::new("/dev/vda"));
        assert!(!polled.contains(&"--readonly".to_owned()));
        assert!(polled.contains(&"--cmd_type=nvme".to_owned()));
        assert!(polled.contains(&"--hipri".to_owned()));
        assert!(polled.contains(&"--cpus_allowed=0,2".to_owned()));
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let node = Path::new("/no/such/device");
        let error = run(node, &workload(), None).unwrap_err().to_string();
        assert!(
            error.contains("/no/such/device") && error.contains("No such file"),
            "{error}"
        );
    }
}
