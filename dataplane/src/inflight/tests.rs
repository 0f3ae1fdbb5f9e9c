//! What the log of one process tells the next.

use std::fs::File;

use super::{InFlightLog, LogError, QueueLog};
use crate::ring::{Descriptor, RingState, TakenChain, UsedDescriptor};

fn file() -> File {
    tempfile::tempfile().unwrap()
}

/// A log of 2 queues with 8 entries, and the second one's.
fn created(file: &File) -> (InFlightLog, QueueLog) {
    let log = InFlightLog::create(file.try_clone().unwrap(), 2, 8).unwrap();
    let queue = log.queue(1).unwrap();
    (log, queue)
}

/// What the next process sees.
fn again(file: &File) -> QueueLog {
    let log = InFlightLog::open(file.try_clone().unwrap(), 2, 8).unwrap();
    log.queue(1).unwrap()
}

mod split {
    use super::*;

    fn never(index: u16) -> u32 {
        panic!("looked at used element {index}")
    }

    #[test]
    fn what_was_taken_and_not_returned_is_found_oldest_first() {
        let file = file();
        let (_log, queue) = created(&file);
        let mut queue = queue.split;
        queue.begin(65_534);
        for head in [3, 6, 0] {
            queue.taken(head);
        }
        queue.returned(6);
        queue.published(65_535);
        assert_eq!(again(&file).split.recover(65_535, never), [3, 0]);
        // Those that were recovered keep their numbers, and later ones have larger ones.
        let mut next = again(&file).split;
        assert_eq!(next.recover(65_535, never), [3, 0]);
        next.taken(1);
        assert_eq!(again(&file).split.recover(65_535, never), [3, 0, 1]);
    }

    #[test]
    fn what_was_published_and_not_noted_is_in_the_used_ring() {
        let file = file();
        let (_log, queue) = created(&file);
        let mut queue = queue.split;
        queue.begin(65_535);
        for head in [3, 6, 0] {
            queue.taken(head);
        }
        let used = |index: u16| match index {
            65_535 => 6,
            0 => 70_000,
            1 => 3,
            other => never(other),
        };
        assert_eq!(again(&file).split.recover(2, used), [0]);
        assert_eq!(again(&file).split.recover(2, never), [0]);
    }
}

mod packed {
    use super::*;

    fn state(next_avail: u16, next_used: u16) -> RingState {
        RingState {
            next_avail,
            next_used,
        }
    }

    fn used(slot: u16, id: u16) -> UsedDescriptor {
        let rest = u64::from(id) << 32;
        UsedDescriptor { slot, rest }
    }

    /// A chain of `count` descriptors, as the ring has it.
    fn chain(id: u16, count: u16) -> TakenChain {
        let descriptors = (0..count).map(|place| {
            let more = u64::from(place + 1 < count) << 48;
            let words = u64::from(100 + place) | u64::from(id) << 32 | more;
            Descriptor::from_packed(u64::from(id) << 12, words)
        });
        TakenChain {
            id,
            descriptors: descriptors.collect(),
        }
    }

    /// What matters of chains, descriptor by descriptor: the links of a copy are its own.
    fn buffers(chains: &[TakenChain]) -> Vec<(u16, u64, u32, bool)> {
        let descriptors = chains
            .iter()
            .flat_map(|chain| chain.descriptors.iter().map(|it| (chain.id, it)));
        descriptors
            .map(|(id, it)| (id, it.address.0, it.bytes, it.has_next()))
            .collect()
    }

    fn keep(queue: &mut QueueLog, chain: &TakenChain) {
        let descriptors = chain.descriptors.iter().copied();
        queue.packed.keep(chain.id, descriptors);
    }

    #[test]
    fn chains_that_a_batch_left_behind_are_copies_oldest_first() {
        let file = file();
        let (_log, mut queue) = created(&file);
        queue.packed.begin(state(0, 0));
        let chains = [chain(7, 3), chain(2, 1), chain(5, 4)];
        for chain in &chains {
            keep(&mut queue, chain);
        }
        queue.packed.commit(state(8, 1), &[used(0, 2)]);
        let found = again(&file).packed.recover();
        assert_eq!(found.state, state(8, 1));
        assert_eq!(found.used, [used(0, 2)]);
        let [oldest, _, newest] = chains;
        assert_eq!(buffers(&found.in_flight), buffers(&[oldest, newest]));
        assert_eq!(found.in_flight[1].descriptors[3].buffer_id(), 5);
    }

    #[test]
    fn what_came_after_the_last_batch_is_in_the_ring() {
        let file = file();
        let (_log, mut queue) = created(&file);
        queue.packed.begin(state(0, 0));
        keep(&mut queue, &chain(1, 2));
        queue.packed.commit(state(2, 2), &[used(0, 1)]);
        queue.packed.published();
        // The same ID again.
        keep(&mut queue, &chain(1, 3));
        for _ in 0..2 {
            let found = again(&file).packed.recover();
            assert_eq!((found.state, found.in_flight), (state(2, 2), Vec::new()));
        }
    }

    #[test]
    fn places_of_copies_are_used_again() {
        let file = file();
        let (_log, mut queue) = created(&file);
        queue.packed.begin(state(0, 0));
        for id in (0..8).cycle().take(100) {
            keep(&mut queue, &chain(id, 5));
            // No room: it breaks the rules, and is not kept.
            keep(&mut queue, &chain((id + 1) % 8, 4));
            queue.packed.commit(state(0, 0), &[used(0, id)]);
            queue.packed.published();
        }
        let whole = chain(3, 8);
        keep(&mut queue, &whole);
        queue.packed.commit(state(0, 0), &[used(0, 7)]);
        let found = again(&file).packed.recover();
        assert_eq!(buffers(&found.in_flight), buffers(&[whole]));
    }
}

#[test]
fn a_queue_that_the_driver_took_back_is_not_served() {
    let file = file();
    let (_log, mut queue) = created(&file);
    queue.split.begin(0);
    queue.serve(super::queue_log::Format::Split);
    queue.split.taken(4);
    assert!(again(&file).is_served());
    queue.end();
    assert!(!again(&file).is_served());
    assert_eq!(again(&file).split.recover(0, |_| 8), [0; 0]);
}

#[test]
fn files_that_are_no_such_log_are_refused() {
    let open =
        |file: &File, queues| InFlightLog::open(file.try_clone().unwrap(), queues, 8).unwrap_err();
    let foreign = file();
    assert!(matches!(open(&foreign, 2), LogError::File(_)));
    foreign.set_len(1 << 20).unwrap();
    assert!(matches!(open(&foreign, 2), LogError::Foreign));
    InFlightLog::create(foreign.try_clone().unwrap(), 2, 8).unwrap();
    let error = open(&foreign, 3).to_string();
    assert!(error.contains("2 queues with 8 entries"), "{error}");
    foreign.set_len(4096).unwrap();
    assert!(matches!(open(&foreign, 2), LogError::Foreign));
}
