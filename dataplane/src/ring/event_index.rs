//! Event index arithmetic (VIRTIO 1.3, 2.7.10): pure, modulo 2^16.

/// Returns whether moving an index from `old` to `new` passes `event`, so that the other side asked
/// to be notified.
#[inline]
pub fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::need_event;

    /// The definition, walked one index at a time: some step leaves `event` behind.
    fn passes(event: u16, new: u16, old: u16) -> bool {
        let mut index = old;
        while index != new {
            if index == event {
                return true;
            }
            index = index.wrapping_add(1);
        }
        false
    }

    #[test]
    fn agrees_with_the_definition_at_every_distance() {
        for old in [0_u16, 1, 0x7fff, 0xfff0, 0xffff] {
            for advance in [0_u16, 1, 2, 64, 255, 256, 1024] {
                let new = old.wrapping_add(advance);
                for event in 0..=u16::MAX {
                    assert_eq!(need_event(event, new, old), passes(event, new, old));
                }
            }
        }
    }
}
