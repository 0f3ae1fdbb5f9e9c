//! The device status (VIRTIO 1.3, 2.1) as a pure state machine: what a driver's write asks for.
//!
//! Only bits count, never whole bytes: a driver that is bound again without a reset keeps FAILED set
//! (0x83, 0x8b, 0x8f are real sequences).

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK,
};

const ACKNOWLEDGE: u8 = VIRTIO_CONFIG_S_ACKNOWLEDGE as u8;
const DRIVER: u8 = VIRTIO_CONFIG_S_DRIVER as u8;

const FEATURES_OK: u8 = VIRTIO_CONFIG_S_FEATURES_OK as u8;
const DRIVER_OK: u8 = VIRTIO_CONFIG_S_DRIVER_OK as u8;
const FAILED: u8 = VIRTIO_CONFIG_S_FAILED as u8;

/// What a write of the status asks the device to do, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Take the queues and their memory out of use.
    pub stop: bool,
    /// Look at the features and refuse the write if they cannot be served.
    pub check_features: bool,
    /// Serve the queues. This is never refused: drivers do not look at the answer.
    pub start: bool,
}

/// The status that driver and device agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceStatus(u8);

impl DeviceStatus {
    /// Returns the status of a device whose driver uses it.
    pub(super) fn running() -> Self {
        Self(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    }

    /// Returns the status byte.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether a driver has the device. Linux acknowledges a device that none has.
    pub fn has_driver(self) -> bool {
        self.0 & DRIVER != 0
    }

    /// Returns whether the driver uses its queues.
    pub fn is_driver_ok(self) -> bool {
        self.0 & DRIVER_OK != 0
    }

    /// Returns whether the driver has given up on the device.
    pub fn is_failed(self) -> bool {
        self.0 & FAILED != 0
    }

    /// Returns what writing `asked` means.
    pub fn step(self, asked: u8) -> Step {
        let set = asked & !self.0;
        let cleared = self.0 & !asked;
        let gave_up = set & FAILED != 0;
        Step {
            // Only a reset may clear bits; what a driver that clears DRIVER_OK alone can mean is the same.
            stop: asked == 0 || cleared & DRIVER_OK != 0 || gave_up,
            check_features: set & FEATURES_OK != 0,
            start: set & DRIVER_OK != 0,
        }
    }

    /// Returns the status after `asked` was accepted.
    #[must_use]
    pub fn accept(self, asked: u8) -> Self {
        Self(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `writes` from reset. Returns what each asked for.
    fn play(writes: &[u8]) -> Vec<Step> {
        let mut status = DeviceStatus::default();
        let mut step = |&asked: &u8| {
            let step = status.step(asked);
            status = status.accept(asked);
            step
        };
        writes.iter().map(&mut step).collect()
    }

    const STOP: Step = Step {
        stop: true,
        check_features: false,
        start: false,
    };
    const CHECK: Step = Step {
        stop: false,
        check_features: true,
        start: false,
    };
    const START: Step = Step {
        stop: false,
        check_features: false,
        start: true,
    };
    const NOTHING: Step = Step {
        stop: false,
        check_features: false,
        start: false,
    };

    #[test]
    fn a_probe_checks_features_once_and_starts_once() {
        let steps = play(&[0x00, 0x01, 0x03, 0x0b, 0x0f]);
        assert_eq!(steps, [STOP, NOTHING, NOTHING, CHECK, START]);
    }

    #[test]
    fn a_reset_stops_whatever_came_before() {
        assert_eq!(play(&[0x0f, 0x00]).last(), Some(&STOP));
        assert_eq!(play(&[0x0b, 0x00]).last(), Some(&STOP));
    }

    #[test]
    fn a_second_probe_without_a_reset_keeps_failed_set() {
        let steps = play(&[0x00, 0x01, 0x03, 0x83, 0x8b, 0x8f]);
        assert_eq!(steps[3..], [STOP, CHECK, START]);
    }

    #[test]
    fn everything_at_once_is_checked_before_it_is_started() {
        let both = Step {
            stop: false,
            check_features: true,
            start: true,
        };
        assert_eq!(play(&[0x0f]), [both]);
    }

    #[test]
    fn a_repeated_write_does_nothing() {
        assert_eq!(play(&[0x0f, 0x0f]).last(), Some(&NOTHING));
    }

    #[test]
    fn clearing_driver_ok_or_setting_failed_stops() {
        assert_eq!(play(&[0x0f, 0x0b]).last(), Some(&STOP));
        assert_eq!(play(&[0x0f, 0x8f]).last(), Some(&STOP));
    }

    #[test]
    fn a_device_that_its_driver_left_has_none() {
        let status = DeviceStatus::default().accept(0x0f);
        assert!(status.has_driver());
        assert!(!status.accept(0x00).accept(0x01).has_driver());
    }

    #[test]
    fn a_refused_write_leaves_the_status_so_that_asking_again_checks_again() {
        let status = DeviceStatus::default().accept(0x03);
        assert_eq!(status.step(0x0b), CHECK);
        assert_eq!(status.step(0x0b), CHECK);
    }
}
