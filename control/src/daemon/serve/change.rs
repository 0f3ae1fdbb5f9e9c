//! Changes to what is served, done one after another by the daemon's own thread.

use std::sync::mpsc::Sender;

use pollux_dataplane::limits::DEVICES_MAX;
use vduse::Name;

use super::make::failed;
use super::{Daemon, Event, Reloaded, Wanted};

/// Whom to tell what came of it. Whoever asked may be gone by then.
pub(super) type Answer<T> = Sender<Result<T, String>>;

/// What the daemon is asked to change.
#[derive(Debug)]
pub(super) enum Change {
    /// To serve what the configuration says now. A signal waits for no answer.
    Reload(Option<Answer<Reloaded>>),
    /// To serve one device more.
    Add(Box<Wanted>, Answer<()>),
    /// To serve one less.
    Remove(Name, Answer<()>),
}

impl Daemon {
    /// Does it, and tells whoever asked.
    pub(super) fn change(&mut self, change: Change, watch: &mut impl FnMut(&Event)) {
        match change {
            Change::Reload(answer) => {
                let reloaded = self.reload(watch);
                if let Err(reason) = &reloaded {
                    tracing::error!("nothing is reloaded: {reason}");
                }
                if let Some(answer) = answer {
                    drop(answer.send(reloaded));
                }
            }
            Change::Add(wanted, answer) => drop(answer.send(self.add_alone(*wanted, watch))),
            Change::Remove(name, answer) => drop(answer.send(self.remove(&name, watch))),
        }
    }

    /// Serves and attaches a device that the configuration does not have. It is not served at all if it cannot be attached.
    fn add_alone(&mut self, wanted: Wanted, watch: &mut impl FnMut(&Event)) -> Result<(), String> {
        let name = wanted.options.name.clone();
        let is_served = |daemon: &Self| daemon.devices.iter().any(|it| it.name == name);
        if is_served(self) {
            return Err(format!(
                "device {name} is served already: remove it first, or use another name"
            ));
        }
        if self.devices.len() >= DEVICES_MAX {
            return Err(format!(
                "device {name}: this daemon has {DEVICES_MAX} devices already; remove one, or start another daemon"
            ));
        }
        // What another daemon serves stays there.
        let takeover = std::mem::take(&mut self.takeover);
        let added = self.add(wanted, watch);
        self.takeover = takeover;
        let Err(error) = added else {
            if let Some(device) = self.devices.last_mut() {
                device.is_configured = false;
            }
            return Ok(());
        };
        watch(&failed(&name, &error));
        let mut reason = error.to_string();
        if is_served(self)
            && let Err(left_behind) = self.remove(&name, watch)
        {
            reason = format!("{reason}; {left_behind}");
        }
        Err(reason)
    }
}
