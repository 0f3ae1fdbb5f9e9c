//! Attaching and detaching, each through a thread of its own, since the kernel's probe waits for ours.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use vduse::Name;

use super::{Answer, Daemon, DaemonError, End, Event, Wake};
use crate::api::HandedOver;
use crate::vdpa::{self, Attached, Driver};

/// How often someone who waits is told what for.
const REMINDER: Duration = Duration::from_secs(2);

impl Daemon {
    /// Attaches a device through a thread of its own, since the kernel's probe waits for ours. Returns
    /// false when a signal came in between.
    pub(super) fn attach(
        &mut self,
        name: &Name,
        driver: Driver,
        watch: &mut impl FnMut(&Event),
    ) -> Result<bool, DaemonError> {
        let served = self.devices.iter().find(|device| device.name == *name);
        let Some(asker) = served.map(|device| device.control.asker()) else {
            return Ok(true);
        };
        let (name, sender) = (name.clone(), self.sender.clone());
        let label = name.to_string();
        std::thread::spawn(move || {
            let attached = asker.attach(&name, driver);
            // The daemon waits for this, so it listens.
            let _ = sender.send(Wake::Attached(name, attached));
        });
        let mut interrupted = false;
        loop {
            match self.wakes.recv_timeout(REMINDER) {
                Ok(Wake::Attached(name, attached)) => {
                    let Attached { driver, node } = attached?;
                    watch(&Event::Attached {
                        name: name.to_string(),
                        driver,
                        node,
                    });
                    return Ok(!interrupted);
                }
                Ok(Wake::Signal) => {
                    interrupted = true;
                    self.end = Some(End::Stop);
                    // The probe may wait for requests that the backend never finishes.
                    let devices = self.devices.iter();
                    let probed = devices.filter(|device| device.name.as_str() == label);
                    probed.for_each(|device| device.control.asker().set_leaving(true));
                }
                Ok(Wake::HandOver(name, answer)) => refuse(&name, &answer),
                Ok(Wake::Leave) => drop(self.end.get_or_insert(End::Leave)),
                Ok(Wake::Change(change)) => self.changes.push_back(change),
                Ok(Wake::Detached(..)) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let reason = format!("the {driver} driver's probe");
                    watch(&Event::Waiting {
                        name: label.clone(),
                        reason,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    pub(super) fn detach(
        &mut self,
        name: &Name,
        watch: &mut impl FnMut(&Event),
    ) -> Result<(), String> {
        let (sender, device) = (self.sender.clone(), name.clone());
        std::thread::spawn(move || {
            let detached = vdpa::detach(&device);
            let _ = sender.send(Wake::Detached(detached));
        });
        let begun = Instant::now();
        loop {
            match self.wakes.recv_timeout(REMINDER) {
                Ok(Wake::Detached(Ok(()))) => {
                    watch(&Event::Detached {
                        name: name.to_string(),
                    });
                    return Ok(());
                }
                Ok(Wake::Detached(Err(error))) => return Err(error.to_string()),
                Ok(Wake::Signal) if begun.elapsed() > REMINDER => {
                    self.end = Some(End::Stop);
                    return Err(format!(
                        "device {name} stays attached: its driver did not let go"
                    ));
                }
                Ok(Wake::Signal) => self.end = Some(End::Stop),
                Ok(Wake::Leave) => drop(self.end.get_or_insert(End::Leave)),
                Ok(Wake::HandOver(name, answer)) => refuse(&name, &answer),
                Ok(Wake::Change(change)) => self.changes.push_back(change),
                Ok(Wake::Attached(..)) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let reason = "the driver to let go: close what uses the device, or interrupt \
                                  again to leave it";
                    watch(&Event::Waiting {
                        name: name.to_string(),
                        reason: reason.into(),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Err("signals ended".into()),
            }
        }
    }
}

/// Answers who asks for a device at a bad time.
fn refuse(name: &Name, answer: &Answer<HandedOver>) {
    let busy = format!("device {name} is being attached or detached: try again");
    // Whoever asked may be gone.
    let _ = answer.send(Err(busy));
}
