//! Changes to what is served, done one after another by the daemon's own thread.

use std::sync::mpsc::Sender;

use super::{Daemon, Event, Reloaded};

/// Whom to tell what came of it. Whoever asked may be gone by then.
pub(super) type Answer<T> = Sender<Result<T, String>>;

/// What the daemon is asked to change.
#[derive(Debug)]
pub(super) enum Change {
    /// To serve what the configuration says now. A signal waits for no answer.
    Reload(Option<Answer<Reloaded>>),
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
        }
    }
}
