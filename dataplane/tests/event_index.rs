//! The event index arithmetic over all pairs of indexes: how far the index moved, and how far from its old
//! place the event lies. Modulo 2^16 nothing else counts, which is shown first.
//!
//! Billions of pairs, so only in an optimised build, where they take a second:
//! `cargo test --release -p pollux-dataplane --test event_index`, which tools/test runs.

#![cfg(not(debug_assertions))]

use pollux_dataplane::ring::need_event;

#[test]
fn only_distances_count() {
    for old in 0..=u16::MAX {
        // Distances where the answer changes, and some others.
        for moved in [0_u16, 1, 2, 255, 1024, 0x7fff, 0x8000, 0xffff] {
            for event in [0_u16, 1, 254, 255, 256, 1023, 1024, 0x7fff, 0x8000, 0xffff] {
                let here = need_event(old.wrapping_add(event), old.wrapping_add(moved), old);
                assert_eq!(here, need_event(event, moved, 0), "from {old}");
            }
        }
    }
}

#[test]
fn every_pair_agrees_with_the_definition() {
    for moved in 0..=u16::MAX {
        // The definition: a step from `index` to `index + 1` leaves `index` behind, and there is a step from each
        // of the indexes 0 to `moved - 1`.
        let told = (0..=u16::MAX)
            .filter(|&event| need_event(event, moved, 0))
            .count();
        assert_eq!(told, usize::from(moved), "events on a way of {moved}");
        let first_is_told = need_event(0, moved, 0);
        let last_is_told = need_event(moved.wrapping_sub(1), moved, 0);
        let next_is_not = !need_event(moved, moved, 0);
        assert_eq!(first_is_told, moved > 0);
        assert_eq!(last_is_told, moved > 0);
        assert!(
            next_is_not,
            "the place of the index itself is not behind it"
        );
        // As many as there should be, and none of them outside: so just those.
        let outside = (moved..=u16::MAX).find(|&event| need_event(event, moved, 0));
        assert_eq!(
            outside, None,
            "told of an event outside of a way of {moved}"
        );
    }
}
