//! SIGINT, SIGTERM, SIGHUP and SIGUSR1 as events.

use std::sync::mpsc::Sender;

use nix::sys::signal::{SigSet, Signal};

/// Blocks these signals in this thread and those that it starts from now on, and sends an `event` for
/// each one from a thread of its own.
pub(super) fn forward<E: Send + 'static>(
    to: Sender<E>,
    event: fn(Signal) -> E,
) -> std::io::Result<()> {
    let signals = SigSet::from_iter([
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ]);
    signals.thread_block()?;
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            if to.send(event(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)?;
    Ok(())
}
