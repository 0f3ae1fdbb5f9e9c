//! Letting go of devices that go on: another daemon serves them next.

use vduse::Name;

use super::{Answer, Daemon, Device, Event};
use crate::api::HandedOver;
use crate::daemon::urgency::Urgency;
use crate::device::ControlHandle;

impl Daemon {
    /// Returns the device `name`, which nobody serves and another daemon can claim.
    pub(super) fn let_go(&mut self, name: &Name) -> Result<(ControlHandle, HandedOver), String> {
        let place = self.devices.iter().position(|device| device.name == *name);
        let place = place.ok_or_else(|| format!("device {name} is not served here any more"))?;
        let since = self.devices[place].control.let_go().ok_or_else(|| {
            format!(
                "device {name} is not handed over: its backend does not finish what is in flight; try again"
            )
        })?;
        self.service.forget(name);
        let mut device = self.devices.remove(place);
        let left = device.control.leave();
        drop(device.claim);
        if let Some(api) = &self.api {
            api.forget(name);
        }
        left.map_err(|reason| format!("device {name} cannot be closed: {reason}"))?;
        let pid = std::process::id();
        Ok((device.control, HandedOver { pid, since }))
    }

    /// Leaves every device that the next daemon can take over to it; the others are unmade with this one.
    pub(super) fn leave(&mut self, watch: &mut impl FnMut(&Event)) {
        // Nobody would take over a device that only this daemon knows of.
        let left = |device: &Device| device.is_configured && device.control.can_be_left();
        let left = self.devices.iter().filter(|device| left(device));
        let names: Vec<Name> = left.map(|device| device.name.clone()).collect();
        for name in &names {
            match self.let_go(name) {
                Ok((control, _)) => control.wait(),
                Err(reason) => {
                    tracing::warn!(device = %name, "{reason}; its log tells the next daemon what is in flight");
                    // Served until the process ends, as if that was killed.
                    let kept = self.devices.extract_if(.., |device| device.name == *name);
                    kept.for_each(std::mem::forget);
                }
            }
            watch(&Event::Left {
                name: name.to_string(),
            });
        }
    }

    /// Lets go of the device `name` for another daemon, which is told at once: the driver waits for it.
    pub(super) fn hand_over(
        &mut self,
        name: &Name,
        answer: &Answer<HandedOver>,
        watch: &mut impl FnMut(&Event),
    ) {
        // Until the answer is on its way.
        let _urgency = Urgency::begin();
        // Whoever asked may be gone; then the device is left like that of a killed daemon.
        match self.let_go(name) {
            Ok((control, handed_over)) => {
                let _ = answer.send(Ok(handed_over));
                control.wait();
                watch(&Event::HandedOver {
                    name: name.to_string(),
                });
            }
            Err(refused) => drop(answer.send(Err(refused))),
        }
    }
}
