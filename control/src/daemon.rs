//! The daemon: devices, the API and the signals that end it.

mod claim;
mod confinement;
mod housekeeping;
mod pressure;
mod serve;
mod service;
mod signals;
mod sockets;
mod urgency;

pub use claim::{Claim, ClaimError};
pub(crate) use serve::Requests;
pub use serve::{DaemonError, Event, Plan, Reload, Reloaded, ServeRequest, Wanted, serve};

/// Where daemons keep their sockets and locks.
pub const RUNTIME_DIR: &str = "/run/pollux";

/// How the name of a daemon's socket ends.
pub(crate) const SOCKET_SUFFIX: &str = ".sock";
