//! Places in a packed ring (VIRTIO 1.3, 2.8.1): a slot and a wrap counter, which together repeat every
//! two laps.

/// Wrap counter of an offset in an event suppression structure and in a queue's configuration.
const WRAP: u16 = 1 << 15;

/// A place that moves round and round in a ring whose size is a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lap {
    size: u16,
    /// Steps since slot 0 with wrap counter 1, modulo two laps.
    steps: u16,
}

impl Lap {
    /// Returns the place that `bits` names: a slot with the wrap counter in bit 15.
    pub(super) fn from_bits(bits: u16, size: u16) -> Self {
        let lap = if bits & WRAP == 0 { size } else { 0 };
        let steps = (bits & (size - 1)) | lap;
        Self { size, steps }
    }

    /// Returns the slot.
    pub(super) fn slot(self) -> u16 {
        self.steps & (self.size - 1)
    }

    /// Returns the wrap counter.
    pub(super) fn wrap(self) -> bool {
        self.steps & self.size == 0
    }

    /// Returns the place `by` slots further.
    pub(super) fn forward(self, by: u16) -> Self {
        let steps = self.steps.wrapping_add(by) & self.last_step();
        Self { steps, ..self }
    }

    /// Returns the slot with the wrap counter in bit 15.
    pub(super) fn bits(self) -> u16 {
        self.slot() | if self.wrap() { WRAP } else { 0 }
    }

    /// Returns whether one of the `count` slots from here on is the one that `event` names in the same
    /// form.
    pub(super) fn passes(self, event: u16, count: u32) -> bool {
        let slot = event & !WRAP;
        let lap = if event & WRAP == 0 { self.size } else { 0 };
        let ahead = (slot | lap).wrapping_sub(self.steps) & self.last_step();
        slot < self.size && u32::from(ahead) < count
    }

    /// Returns the last step of two laps.
    fn last_step(self) -> u16 {
        (self.size - 1) | self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrap_counter_changes_behind_the_last_slot_of_each_lap() {
        let mut place = Lap::from_bits(WRAP, 4);
        for lap in 0..5_u16 {
            for slot in 0..4 {
                assert_eq!((place.slot(), place.wrap()), (slot, lap % 2 == 0));
                assert_eq!(Lap::from_bits(place.bits(), 4), place);
                place = place.forward(1);
            }
        }
        assert_eq!(Lap::from_bits(WRAP, 4).forward(6).bits(), 2);
    }

    #[test]
    fn an_event_is_passed_when_its_place_is_among_those_walked() {
        for size in [1, 2, 4, 8] {
            for start in 0..2 * size {
                for count in 0..=2 * size {
                    let from = Lap::from_bits(WRAP, size).forward(start);
                    let walked = (0..count).map(|by| from.forward(by).bits());
                    let walked: Vec<u16> = walked.collect();
                    for event in 0..=u16::MAX {
                        let expected = walked.contains(&event);
                        assert_eq!(from.passes(event, u32::from(count)), expected);
                    }
                }
            }
        }
    }
}
