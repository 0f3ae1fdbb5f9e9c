//! From what is wanted to a device that is served and attached.

use std::collections::BTreeMap;

use vduse::Name;

use super::{Daemon, DaemonError, Device, Event, Wanted};
use crate::api::Client;
use crate::daemon::claim::Claim;
use crate::daemon::urgency::Urgency;
use crate::device::Prepared;
use crate::vdpa::{self, Attached, Driver};

impl Daemon {
    /// Checks what is wanted and opens its disk; threads of its own keep off those CPUs `taken`, if they can. Nothing is made
    /// yet.
    pub(super) fn prepare(
        &self,
        wanted: &Wanted,
        taken: &[usize],
    ) -> Result<Prepared, DaemonError> {
        let options = wanted.options.clone();
        if let Some(paths) = &self.paths {
            let checked = paths.check(&options.places(), Some(&self.folder));
            checked.map_err(|reason| DaemonError::Outside {
                name: options.name.clone(),
                reason,
            })?;
        }
        Ok(Prepared::new(options, &self.folder, &self.crew, taken)?)
    }

    /// Makes the device, or takes it over. Nothing is left behind on failure.
    pub(super) fn make(
        &mut self,
        mut device: Prepared,
        keys: BTreeMap<String, String>,
    ) -> Result<Event, DaemonError> {
        let name = device.name().clone();
        let (mut left, mut urgency) = (None, None);
        if self.takeover {
            // Before anything is asked of the daemon that serves it, if one does: it may be no device for this one.
            device.stand_by()?;
            urgency = Some(Urgency::begin());
            left = Client::new(&self.folder).hand_over(name.as_str())?;
        }
        let claim = Claim::new(&self.folder, &name)?;
        let cpus = device.cpus().to_vec();
        let control = device.spawn()?;
        drop(urgency);
        let event = match control.is_taken_over() {
            true => Event::TakenOver {
                name: name.to_string(),
                from: left.map(|left| left.pid),
                pause_us: left.map(|left| control.served_at().after(left.since).as_micros() as u64),
            },
            false => Event::Serving {
                name: name.to_string(),
            },
        };
        self.service.watch(name.clone(), control.asker());
        self.devices.push(Device {
            name,
            control,
            claim,
            keys,
            is_configured: true,
            cpus,
        });
        Ok(event)
    }

    /// Attaches the device, unless the daemon before left it attached. Returns false when a signal came in between.
    pub(super) fn bind(
        &mut self,
        name: &Name,
        driver: Option<Driver>,
        watch: &mut impl FnMut(&Event),
    ) -> Result<bool, DaemonError> {
        // A driver that gave up has no disk to lose.
        let keep = |_: &Attached| driver.is_none() || !vdpa::has_failed(name);
        if let Some(Attached { driver, node }) = vdpa::bound(name).filter(keep) {
            watch(&Event::Attached {
                name: name.to_string(),
                driver,
                node,
            });
            return Ok(true);
        }
        let Some(driver) = driver else {
            return Ok(true);
        };
        if vdpa::status(name) != vdpa::Status::Detached {
            // A daemon was killed before it bound a driver, or after it refused one; a bus device cannot be
            // added twice.
            self.detach(name, watch).map_err(DaemonError::Unclean)?;
        }
        self.attach(name, driver, watch)
    }

    /// Returns what to tell of a device that cannot be served, where the others are; the first reason is kept in `first`.
    pub(super) fn tolerate(
        &self,
        wanted: &Wanted,
        error: DaemonError,
        first: &mut Option<DaemonError>,
    ) -> Result<Event, DaemonError> {
        if self.reload.is_none() {
            return Err(error);
        }
        let event = failed(&wanted.options.name, &error);
        first.get_or_insert(error);
        Ok(event)
    }
}

/// Returns what to tell of a device that cannot be served or attached, which is logged.
pub(super) fn failed(name: &Name, error: &DaemonError) -> Event {
    let (name, reason) = (name.to_string(), error.to_string());
    tracing::error!(device = name, "{reason}");
    Event::Failed { name, reason }
}
