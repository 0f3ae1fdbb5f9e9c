//! The device side of a virtqueue: taking chains, returning them, and who must be told when.

mod area;
mod backlog;
mod chain;
mod descriptor;
mod device_queue;
mod event_index;
mod fault;
mod features;
mod head;
mod in_order;
mod indirect;
mod packed;
mod position;
mod segments;
mod setup;
mod split;
mod table;
mod taken_chain;
mod used_descriptor;

pub use backlog::Backlog;
pub use chain::Chain;
pub use descriptor::Descriptor;
pub use device_queue::DeviceQueue;
pub use event_index::need_event;
pub use fault::DriverFault;
pub use features::RingFeatures;
pub use head::{Done, Head};
pub use in_order::InOrder;
pub use packed::PackedQueue;
pub use position::Position;
pub use setup::{QueueConfig, RingState, SetupError};
pub use split::SplitQueue;
pub use taken_chain::TakenChain;
pub use used_descriptor::UsedDescriptor;
