//! What serves a virtqueue, on a thread of its own or one that many share: its poll loop, when it sleeps, how control talks to it.
//!
//! Under `cfg(loom)` only the mailbox is here, to be model-checked.

mod lone_chain;
mod mailbox;
mod primitive;
mod setup;

pub use mailbox::{Answer, Command, Mailbox, Unanswered, WorkerEnd};
pub use setup::{QueueSetup, Report};

#[cfg(not(loom))]
mod answer;
#[cfg(not(loom))]
mod asleep;
#[cfg(not(loom))]
mod confinement;
#[cfg(not(loom))]
mod idle;
#[cfg(not(loom))]
mod in_flight;
#[cfg(not(loom))]
mod moderation;
#[cfg(not(loom))]
mod notifier;
#[cfg(not(loom))]
mod pass;
#[cfg(not(loom))]
mod poller;
#[cfg(not(loom))]
mod probes;
#[cfg(not(loom))]
mod queue_poller;
#[cfg(not(loom))]
mod rest;
#[cfg(not(loom))]
mod service;
#[cfg(not(loom))]
mod shared;
#[cfg(not(loom))]
mod thread;

#[cfg(not(loom))]
pub use {
    asleep::Asleep,
    confinement::Confinement,
    idle::{Idle, IdlePolicy, PollMode},
    moderation::{Interrupt, Moderation},
    notifier::Notifier,
    pass::Records,
    poller::{Poller, Progress},
    service::ServiceConfig,
    shared::{SharedThread, Stay},
    thread::{Home, Host, SpawnError, ThreadConfig, Worker, WorkerConfig, calibrate_clock, spawn},
};
