//! One VDUSE device: made, served and unmade here.
//!
//! A control thread owns the device's messages and status; one worker a virtqueue owns its ring. The
//! control thread never touches a ring and never waits for a worker without a bound.

mod backend;
mod cpus;
mod create;
mod crew;
mod handle;
mod interrupts;
mod latency;
mod leftover;
mod memory;
mod messages;
mod moment;
mod notifier;
mod options;
mod pause;
mod pool;
mod protocol;
mod queue_map;
mod renew;
mod resize;
mod snapshot;
mod status;
mod thread;
mod topology;
mod trace;
mod umem;
mod vhost_user;
mod workers;

pub use backend::{BackendSpec, BackendSpecError, Disk, SizeError, WrapperError, parse_size};
pub(crate) use cpus::usable_cpus;
pub use cpus::{CpuListError, parse_cpu_list};
pub use create::{Created, ServeError};
pub(crate) use crew::Crew;
pub use handle::{Asker, ControlHandle, Prepared};
pub use interrupts::InterruptCpus;
pub use latency::{LatencyBucket, LatencySnapshot};
pub use leftover::{LeftoverError, remove_leftover};
pub use moment::Moment;
pub use options::{DEFAULT_RING_FEATURES, DeviceOptions, OptionsError, parse_ring_features};
pub use pause::PauseError;
pub use pool::{PoolError, PoolOptions};
pub use queue_map::{QueueMap, queue_map};
pub use resize::{ResizeError, Resized};
pub use snapshot::{DeviceSnapshot, QueueState, QueueStats};
pub use status::{DeviceStatus, Step};
pub use trace::{DeviceState, TraceError};
pub use umem::UmemKind;
pub use vhost_user::SocketError;
