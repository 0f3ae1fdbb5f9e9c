//! The driver side of a virtqueue, over memory that it shares with the device side: what the tests,
//! the fuzzers and the in-process bench drive a queue with.

mod block;
mod memory;
mod split;

pub use block::{BlockDriver, Completed};
pub use memory::DriverMemory;
pub use split::{Buffer, SplitDriver, Used};
