//! Serving what is wanted now: new devices are made and attached, those that are not wanted any more are detached and
//! unmade, and the others are left alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vduse::Name;

use super::make::failed;
use super::{Daemon, DaemonError, Event, Plan, Wanted};
use crate::api::Served;
use crate::device::PoolOptions;

/// How what is to be served is read anew.
pub struct Reload {
    /// Where it is.
    pub file: PathBuf,
    /// Reads it, or says on one line why it cannot.
    pub read: Box<dyn FnMut() -> Result<Plan, String> + Send>,
}

/// What came of a reload: names of devices, and of pools and `paths` where it says so.
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
    /// Serves what is wanted now. Nothing changes where that cannot be read.
    pub(super) fn reload(&mut self, watch: &mut impl FnMut(&Event)) -> Result<Reloaded, String> {
        let Some(Reload { read, .. }) = &mut self.reload else {
            return Err(
                "this daemon has no configuration: start it with pollux serve --config FILE".into(),
            );
        };
        let Plan {
            pools,
            devices,
            paths,
        } = read()?;
        self.service.reloads();
        let mut reloaded = Reloaded::default();
        if paths != self.paths {
            tracing::warn!("paths changed, which takes effect when the daemon is started anew");
            reloaded.changed.push("paths".into());
        }
        for pool in pools {
            self.add_pool(pool, &mut reloaded);
        }
        let is_wanted = |name: &Name| devices.iter().any(|wanted| wanted.options.name == *name);
        let served = self.devices.iter().map(|device| device.name.clone());
        let gone: Vec<Name> = served.filter(|name| !is_wanted(name)).collect();
        for name in gone {
            match self.remove(&name, watch) {
                Ok(()) => reloaded.removed.push(name.to_string()),
                Err(reason) => drop(reloaded.failed.insert(name.to_string(), reason)),
            }
        }
        for wanted in devices {
            let name = wanted.options.name.clone();
            match self.devices.iter_mut().find(|it| it.name == name) {
                Some(device) => {
                    device.is_configured = true;
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

    /// One that is not wanted any more stays: its threads sleep.
    fn add_pool(&self, options: PoolOptions, reloaded: &mut Reloaded) {
        let name = format!("pool {}", options.name);
        match self.crew.add_pool(options) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(
                    "{name} changed, which takes effect when the daemon is started anew"
                );
                reloaded.changed.push(name);
            }
            Err(error) => {
                tracing::error!("{error}");
                reloaded.failed.insert(name, error.to_string());
            }
        }
    }

    /// Serves and attaches one. It is served all the same if it cannot be attached.
    pub(super) fn add(
        &mut self,
        wanted: Wanted,
        watch: &mut impl FnMut(&Event),
    ) -> Result<(), DaemonError> {
        let device = self.prepare(&wanted, &self.taken_cpus())?;
        self.keep_house(device.cpus());
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

    /// Detaches and unmakes one. What stays behind is an error; it is not served then, either.
    pub(super) fn remove(
        &mut self,
        name: &Name,
        watch: &mut impl FnMut(&Event),
    ) -> Result<(), String> {
        let place = self.devices.iter().position(|device| device.name == *name);
        let place = place.ok_or_else(|| format!("device {name} is not served here any more"))?;
        self.service.forget(name);
        let device = self.devices.remove(place);
        if let Some(api) = &self.api {
            api.forget(name);
        }
        let left_behind = self.unmake(device, watch);
        self.keep_house(&[]);
        if left_behind.is_empty() {
            return Ok(());
        }
        let reason = left_behind.join("; ");
        tracing::error!(device = %name, "{reason}");
        Err(reason)
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
