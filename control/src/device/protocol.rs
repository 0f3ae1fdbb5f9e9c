//! What the kernel and a device agreed on when it was created: it holds until the device is destroyed.

use serde::{Deserialize, Serialize};
use vduse::{Control, ControlError, ProtocolFeatures};

/// What Pollux makes use of.
const WANTED: ProtocolFeatures = ProtocolFeatures::QUEUE_READY.union(ProtocolFeatures::SUSPEND);

/// An API version and protocol features. The default is that of kernels before 7.0, and of devices whose state
/// does not name any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Protocol {
    pub(super) api_version: u64,
    features: u64,
}

impl Protocol {
    /// Has devices made through `control` use the most that the kernel knows. Returns that.
    pub(super) fn negotiate(control: &Control) -> Result<Self, ControlError> {
        let api_version = control.set_newest_api_version()?;
        let features = control.features()? & WANTED;
        control.set_features(features)?;
        Ok(Self {
            api_version,
            features: features.bits(),
        })
    }

    /// Has devices made through `control` use this.
    pub(super) fn apply(self, control: &Control) -> Result<(), ControlError> {
        control.set_api_version(self.api_version)?;
        control.set_features(self.features())
    }

    /// Returns how many virtqueue groups, and how many address spaces, a device has. Groups let a driver give the
    /// control virtqueue another memory than the data; a disk has none, and more address spaces would cost a lock for each
    /// buffer.
    pub(super) fn group_count(self) -> u32 {
        u32::from(self.api_version >= 1)
    }

    /// Returns whether the kernel tells when a queue is made ready, and when no more.
    pub(super) fn tells_ready(self) -> bool {
        self.features().contains(ProtocolFeatures::QUEUE_READY)
    }

    /// Returns the features by their names.
    pub(super) fn feature_names(self) -> Vec<String> {
        let names = self.features().iter_names();
        names.map(|(name, _)| name.to_lowercase()).collect()
    }

    fn features(self) -> ProtocolFeatures {
        ProtocolFeatures::from_bits_retain(self.features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_a_protocol_has_the_first() {
        let first: Protocol = serde_json::from_str("{}").unwrap();
        assert_eq!((first.api_version, first.group_count()), (0, 0));
        assert!(!first.tells_ready());
        let newest = Protocol {
            api_version: 1,
            features: WANTED.bits(),
        };
        let text = serde_json::to_string(&newest).unwrap();
        assert_eq!(serde_json::from_str::<Protocol>(&text).unwrap(), newest);
        assert_eq!(newest.feature_names(), ["queue_ready", "suspend"]);
        assert_eq!(newest.group_count(), 1);
    }
}
