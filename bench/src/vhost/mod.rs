//! A load on `/dev/vhost-vdpa-N` or a vhost-user socket: random reads by one pinned thread that polls, through
//! the crate virtio-driver. No interrupt is asked for, and kicks are sent where the device asks for them only.

mod closed_loop;
pub(crate) mod frontend;
mod queue;

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use crate::cpus::{self, CpuError};
use crate::interrupt::Interrupt;
use crate::load::LoadResult;
use crate::transport::Transport;
pub use frontend::FrontendError;
use queue::VhostQueue;

/// Descriptors of one read: header, data, status.
const DESCRIPTORS: u32 = 3;
/// What both pollux and qemu-storage-daemon serve at most.
const QUEUE_SIZE_MAX: u32 = 1024;
/// What they serve when they are not asked for more.
const QUEUE_SIZE_MIN: u32 = 256;
/// Requests that the largest queue holds.
pub const IODEPTH_MAX: u32 = QUEUE_SIZE_MAX / DESCRIPTORS;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// The device could not be set up.
    #[error("{node}: {step}: {reason}; look at `dmesg` and whether its server still runs")]
    Device {
        /// The node.
        node: String,
        /// What was tried.
        step: &'static str,
        /// What came of it.
        reason: String,
    },
    /// The device stopped answering.
    #[error("{node}: no completion for {seconds} s; look at `dmesg` and at its server")]
    Stalled {
        /// The node.
        node: String,
        /// How long.
        seconds: u64,
    },
    /// The CPU of the load.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The user asked to stop.
    #[error("vhost load on {0}: stopped on request; start again to measure")]
    Interrupted(String),
    /// Every read was still under way at the end.
    #[error("vhost load on {0}: no read completed in the measured time; use a longer --runtime")]
    Nothing(String),
}

/// Random reads, a fixed number in flight, for a fixed time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomReads {
    /// Bytes of one read, a multiple of 512.
    pub block_bytes: u32,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Requests kept in flight.
    pub iodepth: u32,
    /// Measured time.
    pub runtime: Duration,
    /// Load before the measured time.
    pub ramp_time: Duration,
    /// The CPU of the thread; none for any.
    pub cpu: Option<usize>,
}

/// Entries of a virtqueue that holds `iodepth` requests, at least what servers have by default.
pub fn queue_size(iodepth: u32) -> u16 {
    let descriptors = iodepth.saturating_mul(DESCRIPTORS).next_power_of_two();
    descriptors.clamp(QUEUE_SIZE_MIN, QUEUE_SIZE_MAX) as u16
}

/// Reads from the device behind `node`, which is bound to the driver vhost_vdpa, or a socket if `transport` is
/// [`Transport::VhostUser`], and returns what was measured.
///
/// # Errors
/// The device cannot be set up, stops answering, completes nothing, or `interrupt` is requested.
pub fn run(
    transport: Transport,
    node: &Path,
    reads: &RandomReads,
    interrupt: Option<&Interrupt>,
) -> Result<LoadResult, VhostError> {
    // A thread of its own: the CPU that it is pinned to is nobody else's matter.
    let loaded = thread::scope(|scope| {
        let thread = scope.spawn(|| load(transport, node, reads, interrupt));
        thread.join()
    });
    loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn load(
    transport: Transport,
    node: &Path,
    reads: &RandomReads,
    interrupt: Option<&Interrupt>,
) -> Result<LoadResult, VhostError> {
    if let Some(cpu) = reads.cpu {
        let set = cpus::set(&[cpu])?;
        let unusable = |reason: Errno| CpuError::Unusable { cpu, reason };
        sched_setaffinity(Pid::from_raw(0), &set).map_err(unusable)?;
    }
    let mut queue = VhostQueue::open(transport, node, reads.iodepth, reads.block_bytes)?;
    let stop = || interrupt.is_some_and(Interrupt::requested);
    let name = node.display().to_string();
    closed_loop::run(&mut queue, reads, stop).map_err(|error| match error {
        closed_loop::LoopError::Stalled(seconds) => VhostError::Stalled {
            node: name,
            seconds,
        },
        closed_loop::LoopError::Stopped => VhostError::Interrupted(name),
        closed_loop::LoopError::Nothing => VhostError::Nothing(name),
        closed_loop::LoopError::Queue(reason) => device_error(node, "sending a read", &reason),
    })
}

fn device_error(node: &Path, step: &'static str, reason: &io::Error) -> VhostError {
    VhostError::Device {
        node: node.display().to_string(),
        step,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_hold_what_is_in_flight() {
        assert_eq!(queue_size(1), 256);
        assert_eq!(queue_size(85), 256);
        assert_eq!(queue_size(86), 512);
        assert_eq!(queue_size(128), 512);
        assert_eq!(queue_size(IODEPTH_MAX), 1024);
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        let reads = RandomReads {
            block_bytes: 4096,
            disk_bytes: 1 << 30,
            iodepth: 1,
            runtime: Duration::from_millis(10),
            ramp_time: Duration::ZERO,
            cpu: None,
        };
        for transport in [Transport::VduseVhost, Transport::VhostUser] {
            let error = run(transport, Path::new("/no/such/device"), &reads, None).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("/no/such/device: opening") && text.contains("No such file"),
                "{text}"
            );
        }
    }
}
