//! The thread that serves a virtqueue: its poll loop, when it sleeps, how control talks to it.

mod idle;
mod in_flight;
mod mailbox;
mod notifier;
mod pass;
mod poller;
mod setup;
mod thread;

pub use idle::{Idle, IdlePolicy, PollMode};
pub use mailbox::{Answer, Command, Mailbox, Unanswered, WorkerEnd};
pub use notifier::Notifier;
pub use pass::Records;
pub use poller::{Poller, Progress};
pub use setup::{QueueSetup, Report};
pub use thread::{SpawnError, Worker, WorkerConfig, spawn};
