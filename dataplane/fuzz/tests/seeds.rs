//! The seeds, without a fuzzer.

use arbitrary::{Arbitrary, Unstructured};
use pollux_fuzz::seeds::seeds;
use pollux_fuzz::{Format, Input, play};

#[test]
fn an_input_is_read_as_it_was_written() {
    for seed in seeds() {
        let bytes = seed.encode();
        let read = Input::arbitrary(&mut Unstructured::new(&bytes));
        assert_eq!(read, Ok(seed));
    }
}

#[test]
fn every_seed_plays_well() {
    for (number, seed) in seeds().iter().enumerate() {
        for format in [Format::Split, Format::Packed] {
            let played = std::panic::catch_unwind(|| play(format, seed));
            assert!(played.is_ok(), "seed {number} in {format:?}: {seed:?}");
        }
    }
}
