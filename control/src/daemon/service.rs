//! What systemd is told of the daemon (sd_notify(3)): that it is ready, what it serves, and that its control threads
//! answer. Without systemd all of it does nothing.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use vduse::Name;

use super::Event;
use crate::device::Asker;

/// Checks in the time after which systemd takes the daemon for dead.
const CHECKS_IN_TIMEOUT: u32 = 4;

/// The service that this process is, if it is one.
pub(super) struct Service {
    tally: Mutex<Tally>,
    watched: Arc<Mutex<Vec<(Name, Asker)>>>,
    /// Ends the watchdog's thread when it is dropped.
    _ends: Sender<()>,
}

impl Service {
    /// Starts the thread that feeds systemd's watchdog, if there is one.
    ///
    /// # Errors
    ///
    /// What the system said to that.
    pub(super) fn start() -> std::io::Result<Self> {
        let (ends, ended) = channel();
        let watched = Arc::default();
        if let Some(timeout) = sd_notify::watchdog_enabled() {
            let watched = Arc::clone(&watched);
            let feed = move || feed(timeout, &watched, &ended);
            Builder::new().name("watchdog".into()).spawn(feed)?;
        }
        Ok(Self {
            tally: Mutex::default(),
            watched,
            _ends: ends,
        })
    }

    /// Has the watchdog starve while the control thread of `name` does not answer.
    pub(super) fn watch(&self, name: Name, asker: Asker) {
        lock(&self.watched).push((name, asker));
    }

    /// Ends that, before the thread is told to end.
    pub(super) fn forget(&self, name: &Name) {
        lock(&self.watched).retain(|(watched, _)| watched != name);
    }

    /// Keeps the status text up to date.
    pub(super) fn note(&self, event: &Event) {
        let mut tally = lock(&self.tally);
        if tally.note(event) && tally.is_shown {
            tell(&[NotifyState::Status(&tally.text())]);
        }
    }

    /// All that is to be served is served and attached.
    pub(super) fn is_ready(&self) {
        let mut tally = lock(&self.tally);
        tally.is_shown = true;
        tell(&[NotifyState::Ready, NotifyState::Status(&tally.text())]);
    }

    /// It reads anew what to serve, until it is ready again.
    pub(super) fn reloads(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The daemon ends from here on.
    pub(super) fn stops(&self) {
        lock(&self.tally).is_shown = false;
        let status = NotifyState::Status("letting go of devices");
        tell(&[NotifyState::Stopping, status]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(reason) = sd_notify::notify(state) {
        // systemd finds out by itself, if it is there at all.
        tracing::debug!("systemd could not be told {state:?}: {reason}");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it holds is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Feeds the watchdog as long as every control thread answers well within `timeout`.
fn feed(timeout: Duration, watched: &Mutex<Vec<(Name, Asker)>>, ended: &Receiver<()>) {
    let pause = timeout / CHECKS_IN_TIMEOUT;
    loop {
        let devices = lock(watched).clone();
        match silent(&devices, Asker::ask_alive, timeout / 2) {
            None => tell(&[NotifyState::Watchdog]),
            // It may have been told to end meanwhile.
            Some(name) if lock(watched).iter().any(|(watched, _)| watched == name) => {
                tracing::error!(device = %name, "the control thread does not answer; systemd is not told that all is well");
            }
            Some(_) => continue,
        }
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Asks all devices at once, and returns the first that does not answer in `time`.
fn silent<A>(
    devices: &[(Name, A)],
    ask: impl Fn(&A) -> Receiver<()>,
    time: Duration,
) -> Option<&Name> {
    let deadline = Instant::now() + time;
    let answers: Vec<_> = devices.iter().map(|(_, asker)| ask(asker)).collect();
    let silent = answers.into_iter().position(|answer| {
        let left = deadline.saturating_duration_since(Instant::now());
        answer.recv_timeout(left).is_err()
    });
    silent.map(|index| &devices[index].0)
}

/// What of the devices is worth a line.
#[derive(Debug, Default)]
struct Tally {
    served: BTreeSet<String>,
    attached: BTreeSet<String>,
    /// Between the daemon's start and its end, which have texts of their own.
    is_shown: bool,
}

impl Tally {
    /// Takes an event in. Returns whether it changed anything.
    fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::Serving { name } | Event::TakenOver { name, .. } => {
                self.served.insert(name.clone())
            }
            Event::Attached { name, .. } => self.attached.insert(name.clone()),
            Event::Detached { name } => self.attached.remove(name),
            Event::Stopped { name } | Event::HandedOver { name } | Event::Left { name } => {
                self.attached.remove(name) | self.served.remove(name)
            }
            Event::Waiting { .. } | Event::Failed { .. } => false,
        }
    }

    fn text(&self) -> String {
        let plural = if self.served.len() == 1 { "" } else { "s" };
        format!(
            "{} device{plural} served, {} attached",
            self.served.len(),
            self.attached.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vdpa::Driver;

    #[test]
    fn a_thread_that_is_silent_or_gone_is_found() {
        let answers = || {
            let (sender, receiver) = channel();
            sender.send(()).unwrap();
            (receiver, Some(sender))
        };
        let (gone, silent_one) = (channel().1, channel());
        let ask = |answer: &Mutex<Option<Receiver<()>>>| lock(answer).take().unwrap();
        let find = |answers: Vec<Receiver<()>>| {
            let named = answers.into_iter().enumerate().map(|(index, answer)| {
                let name: Name = format!("d{index}").parse().unwrap();
                (name, Mutex::new(Some(answer)))
            });
            let devices: Vec<_> = named.collect();
            let found = silent(&devices, ask, Duration::from_millis(50));
            found.map(Name::to_string)
        };
        let [(first, _first), (second, _second), (third, _third)] =
            std::array::from_fn(|_| answers());
        assert_eq!(find(Vec::new()), None);
        assert_eq!(find(vec![first, second]), None);
        assert_eq!(find(vec![third, gone]).as_deref(), Some("d1"));
        assert_eq!(find(vec![silent_one.1]).as_deref(), Some("d0"));
    }

    #[test]
    fn the_status_counts_devices() {
        let name = || "d0".to_owned();
        let mut tally = Tally::default();
        assert_eq!(tally.text(), "0 devices served, 0 attached");
        assert!(tally.note(&Event::Serving { name: name() }));
        assert!(!tally.note(&Event::Serving { name: name() }));
        let attached = Event::Attached {
            name: name(),
            driver: Driver::Virtio,
            node: None,
        };
        assert!(tally.note(&attached));
        assert_eq!(tally.text(), "1 device served, 1 attached");
        tally.note(&Event::Serving { name: "d1".into() });
        assert_eq!(tally.text(), "2 devices served, 1 attached");
        assert!(tally.note(&Event::Left { name: name() }));
        assert!(!tally.note(&Event::Stopped { name: name() }));
        assert_eq!(tally.text(), "1 device served, 0 attached");
    }
}
