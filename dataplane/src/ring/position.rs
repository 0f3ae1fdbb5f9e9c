//! A place in a packed ring: a slot, and a wrap counter that turns over with every lap.

/// A slot of a packed ring and its wrap counter (VIRTIO 1.3, 2.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of a descriptor.
    pub slot: u16,
    /// 1 on the first lap, then in turns.
    pub wrap: bool,
}

impl Position {
    /// Decodes an offset with the wrap counter in bit 15.
    #[inline]
    pub fn from_bits(bits: u16) -> Self {
        Self {
            slot: bits & 0x7fff,
            wrap: bits >> 15 == 1,
        }
    }

    /// Encodes it with the wrap counter in bit 15.
    #[inline]
    pub fn bits(self) -> u16 {
        self.slot | u16::from(self.wrap) << 15
    }

    /// Returns the place `slots` further on in a ring of `size`, `slots` at most `size`.
    #[inline]
    pub fn advanced(self, slots: u16, size: u16) -> Self {
        let slot = self.slot + slots;
        if slot >= size {
            Self {
                slot: slot - size,
                wrap: !self.wrap,
            }
        } else {
            Self { slot, ..self }
        }
    }

    /// Returns how many slots `self` is ahead of `behind` in a ring of `size`: from 0 to `size` when both are
    /// at most a lap apart.
    #[inline]
    pub fn ahead_of(self, behind: Self, size: u16) -> u16 {
        let lap = if self.wrap == behind.wrap { 0 } else { size };
        self.slot.wrapping_add(lap).wrapping_sub(behind.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_of_any_length_is_measured_back() {
        let size = 8;
        for start in 0..2 * size {
            let start = Position {
                slot: start % size,
                wrap: start < size,
            };
            let mut walked = start;
            for slots in 0..=size {
                assert_eq!(start.advanced(slots, size), walked, "{start:?} + {slots}");
                assert_eq!(walked.ahead_of(start, size), slots, "{start:?} + {slots}");
                assert_eq!(Position::from_bits(walked.bits()), walked);
                walked = walked.advanced(1, size);
            }
        }
    }
}
