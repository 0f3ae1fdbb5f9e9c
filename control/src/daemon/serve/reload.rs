//! Serving what is wanted now: new devices are made and attached, those that are not wanted any more are detached and
//! unmade, and the others are left alone.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vduse::Name;

use super::make::failed;
use super::{Daemon, DaemonError, Event, Wanted};
use crate::api::Served;

/// Reads what is to be served, or says on one line why it cannot.
pub type Reload = Box<dyn FnMut() -> Result<Vec<Wanted>, String> + Send>;

/// What came of a reload: names of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// New ones, which are served now.
    pub added: Vec<String>,
    /// Those that are gone.
    pub removed: Vec<String>,
    /// Those that are described in another way than they were, and go on as they were.
    pub changed: Vec<String>,
    /// Those that could not be served, attached or removed as described, and why.
    pub failed: BTreeMap<String, String>,
}

impl Daemon {
    /// Reloads, and tells whoever asked.
    pub(super) fn answer_reload(
        &mut self,
        answer: Option<Sender<Result<Reloaded, String>>>,
        watch: &mut impl FnMut(&Event),
    ) {
        let reloaded = self.reload(watch);
        if let Err(reason) = &reloaded {
            tracing::error!("nothing is reloaded: {reason}");
        }
        if let Some(answer) = answer {
            // Whoever asked may be gone.
            let _ = answer.send(reloaded);
        }
    }

    /// Does it. Nothing changes where what is wanted cannot be read.
    fn reload(&mut self, watch: &mut impl FnMut(&Event)) -> Result<Reloaded, String> {
        let Some(read) = &mut self.reload else {
            return Err(
                "this daemon has no configuration: start it with pollux serve --config FILE".into(),
            );
        };
        let wanted = read()?;
        self.service.reloads();
        let mut reloaded = Reloaded::default();
        let is_wanted = |name: &Name| wanted.iter().any(|wanted| wanted.options.name == *name);
        let served = self.devices.iter().map(|device| device.name.clone());
        let gone: Vec<Name> = served.filter(|name| !is_wanted(name)).collect();
        for name in gone {
            self.remove(&name, &mut reloaded, watch);
        }
        for wanted in wanted {
            let name = wanted.options.name.clone();
            match self.devices.iter().find(|device| device.name == name) {
                Some(device) => {
                    let changes = differing(&device.keys, &wanted.keys);
                    if !changes.is_empty() {
                        tracing::warn!(
                            device = %name,
                            "{changes} changed, which takes effect when it is served anew: take it out of the configuration, \
                             reload, and put it back"
                        );
                        reloaded.changed.push(name.to_string());
                    }
                }
                None => match self.add(wanted, watch) {
                    Ok(()) => reloaded.added.push(name.to_string()),
                    Err(error) => {
                        watch(&failed(&name, &error));
                        reloaded.failed.insert(name.to_string(), error.to_string());
                    }
                },
            }
        }
        self.service.is_ready();
        Ok(reloaded)
    }

    fn add(&mut self, wanted: Wanted, watch: &mut impl FnMut(&Event)) -> Result<(), DaemonError> {
        let device = self.prepare(&wanted)?;
        let event = self.make(device, wanted.keys)?;
        watch(&event);
        if let (Some(api), Some(device)) = (&self.api, self.devices.last()) {
            api.remember(Served {
                name: device.name.clone(),
                asker: device.control.asker(),
            });
        }
        self.bind(&wanted.options.name, wanted.driver, watch)
            .map(drop)
    }

    fn remove(&mut self, name: &Name, reloaded: &mut Reloaded, watch: &mut impl FnMut(&Event)) {
        let Some(place) = self.devices.iter().position(|device| device.name == *name) else {
            return;
        };
        self.service.forget(name);
        let device = self.devices.remove(place);
        if let Some(api) = &self.api {
            api.forget(name);
        }
        let left_behind = self.unmake(device, watch);
        match left_behind.is_empty() {
            true => reloaded.removed.push(name.to_string()),
            false => {
                let reason = left_behind.join("; ");
                tracing::error!(device = %name, "{reason}");
                reloaded.failed.insert(name.to_string(), reason);
            }
        }
    }
}

/// Returns the keys by which `now` differs from `then`, as a list.
fn differing(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> String {
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| then.get(*key) != now.get(*key));
    let words: Vec<&str> = differing.map(String::as_str).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_named() {
        let keys = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|&(key, value)| (key.into(), value.into()));
            pairs.collect::<BTreeMap<String, String>>()
        };
        let then = keys(&[("queues", "1"), ("poll", "busy"), ("cpus", "1")]);
        assert_eq!(differing(&then, &then), "");
        let now = keys(&[("queues", "2"), ("poll", "busy"), ("umem", "anon")]);
        assert_eq!(differing(&then, &now), "cpus, queues, umem");
    }
}
