//! Our device side of packed virtqueues, and of in-order ones in both formats, against plain models: a
//! driver writes one memory, the model gets a copy of it, and both must do the same.
//!
//! Compared: ids and their order; addresses, lengths and directions of all buffers; the places in the
//! ring; every byte of the ring and of the device area; the decision to interrupt, and the backlog of a
//! driver that waits; whether asking for kicks finds new chains. What comes back to the driver is what
//! went in.
//!
//! Not compared: the offset in a packed device area whose flags do not refer to it; the reserved values
//! of the driver's.

mod device_model;
mod ring_pair;

use pollux_dataplane::mem::RegionTable;
use pollux_dataplane::ring::{
    DeviceQueue, InOrder, PackedQueue, QueueConfig, RingFeatures, SplitQueue,
};
use proptest::prelude::*;
use ring_pair::{Pair, Round, round};

fn play<Q: DeviceQueue>(mut pair: Pair<Q>, rounds: &[Round]) {
    for round in rounds {
        pair.round(round);
    }
    pair.finish();
}

/// Plays `rounds` with what `features` ask for.
fn play_as(size: u16, features: RingFeatures, start: u16, rounds: &[Round]) {
    let packed = |config: &QueueConfig, table: &RegionTable| PackedQueue::new(config, table);
    let split = |config: &QueueConfig, table: &RegionTable| SplitQueue::new(config, table);
    let is_packed = features.contains(RingFeatures::RING_PACKED);
    match (is_packed, features.contains(RingFeatures::IN_ORDER)) {
        (true, false) => {
            let pair = Pair::new(size, features, start, |c, t| packed(c, t).unwrap());
            play(pair, rounds);
        }
        (true, true) => {
            let ours = |c: &_, t: &_| InOrder::new(packed(c, t).unwrap(), size);
            play(Pair::new(size, features, start, ours), rounds);
        }
        (false, false) => {
            let pair = Pair::new(size, features, start, |c, t| split(c, t).unwrap());
            play(pair, rounds);
        }
        (false, true) => {
            let ours = |c: &_, t: &_| InOrder::new(split(c, t).unwrap(), size);
            play(Pair::new(size, features, start, ours), rounds);
        }
    }
}

fn features() -> impl Strategy<Value = RingFeatures> {
    let all = [
        RingFeatures::INDIRECT_DESC,
        RingFeatures::EVENT_IDX,
        RingFeatures::IN_ORDER,
    ];
    prop::array::uniform3(any::<bool>()).prop_map(move |chosen| {
        let mut features = RingFeatures::empty();
        let pairs = all.into_iter().zip(chosen);
        pairs.for_each(|(feature, on)| features.set(feature, on));
        features
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_packed_queue_does_what_the_model_does(
        size_log2 in 2..7_u32,
        features in features(),
        start in any::<u16>(),
        rounds in prop::collection::vec(round(), 1..32),
    ) {
        let size = 1 << size_log2;
        // A slot of the ring and a wrap counter.
        let start = start & (1 << 15 | (size - 1));
        play_as(size, features | RingFeatures::RING_PACKED, start, &rounds);
    }

    #[test]
    fn a_split_queue_does_what_the_model_does(
        size_log2 in 2..7_u32,
        features in features(),
        start in any::<u16>(),
        rounds in prop::collection::vec(round(), 1..32),
    ) {
        play_as(1 << size_log2, features, start, &rounds);
    }
}
