//! SIGINT and SIGTERM as events.

use std::sync::mpsc::Sender;

use nix::sys::signal::{SigSet, Signal};

/// Blocks both signals in this thread and those that it starts from now on, and sends an `event` for
/// each one from a thread of its own.
pub(super) fn forward<E: Send + 'static>(to: Sender<E>, event: fn() -> E) -> std::io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let wait = move || {
        while signals.wait().is_ok() {
            if to.send(event()).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)?;
    Ok(())
}
