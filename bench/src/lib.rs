//! Benchmarks of Pollux and its peers.
//!
//! [`compare::run`] serves the same null disk with each server in turn, loads it and returns every
//! raw value with the machine it was taken on. The servers under test are started, pinned and torn
//! down in [`server`]; [`transport`] says how they are reached. [`fio`] loads block devices, [`vhost`]
//! what a user-space driver reaches. [`run::run`] measures one [`scenario`]: Pollux by itself, its worker
//! in this process ([`loopback`]) or a daemon behind vhost-user, with one client. [`report`] draws what was recorded, [`gate`] judges whether one build is slower
//! than another.

#![deny(unsafe_code)]

pub mod compare;
pub mod cpus;
mod differences;
pub mod environment;
pub mod fio;
pub mod gate;
pub mod interrupt;
mod ioctl_count;
pub mod load;
pub mod loopback;
mod poll_queues;
mod process;
mod progress;
pub mod report;
mod revision;
pub mod ring;
pub mod run;
pub mod scenario;
pub mod server;
pub mod size;
mod spawn;
mod statistics;
mod thread_usage;
mod tool;
pub mod transport;
mod vdpa;
pub mod vhost;

pub use tool::ToolError;
