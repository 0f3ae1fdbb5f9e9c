//! Whether a candidate is slower than a baseline, told apart from a machine whose speed drifts.
//!
//! Both are measured in turns, so that the two values of a pair have seen the same machine. Pairs of the baseline with
//! itself (A/A) tell how far two equal things come out apart: the noise. A change between baseline and
//! candidate (A/B) counts only where it is larger than that and in its direction beyond doubt; and what could
//! not have been seen is told.

mod build;
mod finding;
mod judge;
mod power;
mod table;

pub use crate::statistics::Interval;
pub use build::{BuildError, Program};
pub use finding::{Finding, Gate, GateError, Measure, servers};
pub use judge::{Better, EvidenceError, Judge, Judgement, Pair, ROUNDS_MIN, Verdict};
pub use power::{Chance, Power};
