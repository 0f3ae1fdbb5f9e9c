//! A disk behind the vhost-user protocol, on a Unix socket, instead of a device of the kernel: the same workers and
//! backends for QEMU, cloud-hypervisor and drivers in user space, on any Linux.
//!
//! <https://www.qemu.org/docs/master/interop/vhost-user.html> is the protocol; the crate `vhost` reads and writes its
//! messages. A frontend shares its memory, says where the rings are in it, and brings two eventfds a queue.
//!
//! One frontend at a time. When it hangs up its queues stop, with what they have in flight finished, and the next one starts
//! anew. A device that a person has paused takes all messages, and serves no queue before it is to go on (`pause.rs`). Should
//! this process be killed, a frontend that keeps the in-flight log brings it to the next one.

mod fd_slot;
mod in_flight;
mod memory;
mod notifier;
mod pause;
mod queue;
mod session;
mod socket;
mod thread;
mod whole;

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use nix::sys::eventfd::EventFd;
pub use socket::SocketError;

use super::handle::Ask;
use super::{Crew, DeviceOptions, Disk, ServeError};
use notifier::Eventfds;
use queue::Queue;
use session::Session;
use socket::Socket;
use thread::VhostUserThread;

/// Starts the workers and the control thread of a device that frontends find at `path`.
///
/// # Errors
///
/// [`ServeError`] when any part of it cannot be had; nothing is left behind then.
pub(super) fn spawn(
    options: DeviceOptions,
    disk: Disk,
    cpus: &[usize],
    crew: &Crew,
    path: &Path,
    wake: Arc<EventFd>,
    inbox: Receiver<Ask>,
) -> Result<JoinHandle<bool>, ServeError> {
    let refuse = |reason: std::io::Error| ServeError::Thread {
        name: options.name.clone(),
        reason,
    };
    let socket = Socket::new(path)?;
    let eventfds: Vec<Eventfds> = (0..options.queues)
        .map(|_| Eventfds::new())
        .collect::<Result<_, _>>()
        .map_err(refuse)?;
    let notifier = |index: u16| eventfds[usize::from(index)].clone();
    let workers = crew.spawn_workers(&options, &disk, cpus, &wake, notifier, |_| None)?;
    let queues = eventfds.iter().cloned().map(Queue::new).collect();
    let session = Session::new(&options, &disk, queues, workers);
    let name = options.name.clone();
    let thread = VhostUserThread {
        options,
        disk,
        socket,
        session: Arc::new(Mutex::new(session)),
        wake,
        inbox,
    };
    let builder = Builder::new().name(format!("{name}/control"));
    let spawned = builder.spawn(move || thread.run());
    spawned.map_err(|reason| ServeError::Thread { name, reason })
}
