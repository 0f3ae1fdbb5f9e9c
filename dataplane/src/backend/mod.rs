//! Where the bytes are: one file a kind of storage, all behind the same few verbs.

mod chance;
mod contract;
mod delay;
mod error;
mod file;
mod held;
mod memory_disk;
mod null;
mod nvme;
mod passthrough;
mod ram;
#[cfg(test)]
mod recorder;
mod throttle;
mod uring;
mod verb;

pub use contract::{Backend, BackendCounts, BackendQueue, Outcome, Submission, Token};
pub use delay::{Delay, DelayQueue, Latencies, Latency};
pub use error::{Failing, FailingQueue, FailureRule, OperationKinds};
pub use file::{FileDisk, FileError, FileOptions, FileQueue};
pub use memory_disk::{DiskError, DiskOptions};
pub use null::{Null, NullQueue};
pub use nvme::{Nvme, NvmeError, NvmeEvent, NvmeOptions, NvmeQueue, give_back_controller};
pub use passthrough::{Passthrough, PassthroughError, PassthroughQueue};
pub use ram::{Ram, RamMemory, RamQueue};
pub use throttle::{Rate, RateLimits, Throttle, ThrottleQueue};
pub use uring::RingOptions;
