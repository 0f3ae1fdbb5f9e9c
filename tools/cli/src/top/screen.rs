//! The loop: samples, keys and signals come through one channel, and the screen is drawn after each.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, KeyEventKind};

use super::Source;
use super::draw::draw;
use super::model::{Model, Sample};

enum Happening {
    Sample(Sample),
    Terminal(io::Result<event::Event>),
    /// A signal asks for the end.
    End,
    /// The thread that asks the daemons has ended.
    Lost,
}

/// Sends [`Happening::Lost`] however its thread ends.
struct Asking(Sender<Happening>);

impl Drop for Asking {
    fn drop(&mut self) {
        // Nobody listens once the screen is gone.
        let _ = self.0.send(Happening::Lost);
    }
}

/// Shows `source` until somebody quits or a signal comes. The terminal is as before then, after a panic as well.
///
/// # Errors
///
/// What fails of the terminal.
pub(crate) fn run(source: Source, model: Model) -> io::Result<()> {
    let (to, happenings) = channel();
    // Blocked before any thread is started, so that all have it so.
    forward_signals(to.clone())?;
    let mut terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
    let shown =
        start(source, &to, model.delay).and_then(|()| show(&mut terminal, &happenings, model));
    ratatui::restore();
    shown
}

fn forward_signals(to: Sender<Happening>) -> io::Result<()> {
    let signals = SigSet::from_iter([
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ]);
    signals.thread_block()?;
    let wait = move || {
        if signals.wait().is_ok() {
            let _ = to.send(Happening::End);
        }
    };
    let signals = thread::Builder::new().name("signals".into());
    signals.spawn(wait).map(drop)
}

/// Starts what asks the daemons and what reads keys.
fn start(source: Source, to: &Sender<Happening>, delay: Duration) -> io::Result<()> {
    let asking = Asking(to.clone());
    let ask = move || {
        for sample in source.samples(delay) {
            if asking.0.send(Happening::Sample(sample)).is_err() {
                return;
            }
        }
    };
    let to = to.clone();
    let read = move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if to.send(Happening::Terminal(event)).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("ask".into()).spawn(ask)?;
    thread::Builder::new().name("keys".into()).spawn(read)?;
    Ok(())
}

fn show(
    terminal: &mut DefaultTerminal,
    happenings: &Receiver<Happening>,
    mut model: Model,
) -> io::Result<()> {
    loop {
        terminal.draw(|frame| draw(frame, &model))?;
        match happenings.recv() {
            Ok(Happening::Sample(sample)) => model.take(sample),
            Ok(Happening::Terminal(event)) => {
                // A new size only needs to be drawn.
                if let event::Event::Key(key) = event?
                    && key.kind != KeyEventKind::Release
                    && model.press(key).is_break()
                {
                    return Ok(());
                }
            }
            Ok(Happening::End) => return Ok(()),
            Ok(Happening::Lost) | Err(_) => {
                return Err(io::Error::other("the thread that asks daemons has ended"));
            }
        }
    }
}
