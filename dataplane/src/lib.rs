//! Everything that a Pollux queue thread runs: rings, requests, backends, the poll loop.
//!
//! The layers, lowest first; a module uses only modules before it, and a test refuses any other
//! edge:
//!
//! `limits < mem < ring < {driver, blk} < {inflight, stats, backend} < worker`
//!
//! Nothing here knows a VDUSE file descriptor, a configuration file or a command line.

#![deny(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("shared memory is read and written as little-endian without conversion");

pub mod backend;
pub mod blk;
pub mod driver;
pub mod inflight;
pub mod limits;
pub mod mem;
pub mod ring;
pub mod stats;
pub mod worker;
