//! The driver side of a virtqueue, over memory that it shares with the device side: what the tests,
//! the fuzzers and the in-process bench drive a queue with.

mod batch;
mod block;
mod buffer;
mod free_list;
mod indirect;
mod lap;
mod memory;
mod packed;
mod queue;
mod split;

pub use block::{Answer, BlockDriver, Completed};
pub use buffer::{Buffer, Used};
pub use memory::DriverMemory;
pub use packed::PackedDriver;
pub use queue::QueueDriver;
pub use split::SplitDriver;
