//! Benchmarks of Pollux and its peers.
//!
//! [`compare::run`] serves the same null disk with each server in turn, lets fio read from it and
//! returns every raw value with the machine it was taken on. The servers under test are started,
//! pinned and torn down in [`server`]; [`fio`] is the load generator.

#![deny(unsafe_code)]

pub mod compare;
pub mod cpus;
pub mod environment;
pub mod fio;
pub mod interrupt;
mod ioctl_count;
mod process;
pub mod server;
mod spawn;
mod tool;
mod vdpa;

pub use tool::ToolError;
