//! The device side of a packed virtqueue against any driver.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pollux_fuzz::{Format, Input, play};

fuzz_target!(|input: Input| play(Format::Packed, &input));
