//! A daemon that serves nobody: it refuses every choice of features.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vduse::{Device, Reply, RequestKind};

use crate::vhost::FEATURES_OK;

/// How often it looks whether it is to end.
const LOOK_MS: u8 = 10;

/// The running daemon.
pub(super) struct Refuser {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u8>>,
}

impl Refuser {
    /// Takes over the device `name`, which has no daemon.
    pub(super) fn start(name: &str) -> Self {
        let name = name.parse().expect("a name");
        let device = Device::open(&name).expect("a device without a daemon");
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = spawn(move || refuse(&device, &ended));
        Self { end, thread }
    }

    /// Leaves the device. Returns every status that a driver asked for.
    pub(super) fn end(self) -> Vec<u8> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("it answered")
    }
}

fn refuse(device: &Device, ended: &AtomicBool) -> Vec<u8> {
    let mut seen = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(LOOK_MS)).expect("poll");
        while let Some(request) = device.receive().expect("a message") {
            let reply = match request.kind {
                RequestKind::SetStatus { status } => {
                    seen.push(status);
                    match status & FEATURES_OK {
                        0 => Reply::Ok,
                        _ => Reply::Failed,
                    }
                }
                _ => Reply::Failed,
            };
            device.reply(&request, reply).expect("someone waits");
        }
    }
    seen
}
