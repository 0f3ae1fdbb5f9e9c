//! Why a server under test does not serve.

use std::io;
use std::path::PathBuf;

use super::ServerKind;
use crate::cpus::CpuError;
use crate::process::ProcessError;
use crate::tool::ToolError;
use crate::transport::Transport;
use crate::vdpa::VdpaError;

/// Why a server under test does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A program is not installed.
    #[error(transparent)]
    Missing(#[from] ToolError),
    /// A program could not be run or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// vDPA refused.
    #[error(transparent)]
    Vdpa(#[from] VdpaError),
    /// Its threads could not be limited to their CPUs.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// This kernel has no ublk.
    #[error(
        "{node}: not there after `modprobe {module}`: {reason}; run it as root on a kernel with \
         CONFIG_BLK_DEV_UBLK, or leave rublk out of --servers"
    )]
    NoUblk {
        /// The node that is missing.
        node: &'static str,
        /// The kernel's module.
        module: &'static str,
        /// What `modprobe` said.
        reason: String,
    },
    /// rublk's device is left behind.
    #[error("{command}: {reason}; look at `dmesg` and `rublk list`, and run it by hand")]
    NotDeleted {
        /// The command line.
        command: String,
        /// What it said.
        reason: String,
    },
    /// It cannot be loaded this way.
    #[error("{server}: not reachable through {transport}; leave it out of --servers")]
    Unreachable {
        /// Which server.
        server: ServerKind,
        /// The way.
        transport: Transport,
    },
    /// There is no such node to load.
    #[error("raw: {}: {reason}; look at `lsblk` and `ls /dev/ng*`", node.display())]
    NoNode {
        /// The node that was named.
        node: PathBuf,
        /// Why it cannot be looked at.
        reason: io::Error,
    },
    /// The server ended before its disk was there.
    #[error(
        "{server}: ended with {status} before its disk was there: {last_words}; start it by hand: {command}"
    )]
    Ended {
        /// Which server.
        server: ServerKind,
        /// Its exit status.
        status: String,
        /// What it said.
        last_words: String,
        /// How it was started.
        command: String,
    },
    /// It runs but gives no disk.
    #[error("{server}: no {what} after {seconds} s; look at `dmesg` and /sys/bus/vdpa/devices")]
    NotReady {
        /// Which server.
        server: ServerKind,
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },
    /// Its counters could not be read.
    #[error("pollux stats {name}: {reason}; run it by hand beside `pollux serve`")]
    Stats {
        /// The device.
        name: String,
        /// What was wrong.
        reason: String,
    },
    /// The user asked to stop.
    #[error("{0}: stopped on request")]
    Interrupted(ServerKind),
}
