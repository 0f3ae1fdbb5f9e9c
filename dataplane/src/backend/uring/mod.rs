//! An io_uring for each worker, over any storage that takes its entries.

mod copy;
mod pieces;
mod queue;
mod request;
mod ring;
mod target;

pub(super) use queue::UringQueue;
pub use ring::RingOptions;

pub(super) use request::{Limits, Part, Progress, Request};
pub(super) use ring::FILE;
pub(super) use target::{Ended, Target};
