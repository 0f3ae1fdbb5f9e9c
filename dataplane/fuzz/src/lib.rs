//! A driver that does anything, over the device side of a virtqueue.
//!
//! An [`Input`] sets a queue up and says what the driver, the device and the backend do in turn:
//! well-formed block requests, raw descriptors and indexes, completions in any order, changes of the
//! memory map. As long as the driver has kept to the rules, every request must come back once and right,
//! and nobody may sleep through what they asked to be told. Once it has broken them, nothing may panic,
//! loop, reach memory outside of the regions or complete a request twice.
//!
//! Memory that changes between two reads of it comes from the backend, which may write into the rings in
//! the middle of a pass, and from a second thread; inputs that use the thread do not play the same twice.

#![deny(unsafe_code)]

mod backend;
mod flipper;
mod hostile;
mod input;
mod memory;
mod play;
mod random;
mod requests;
pub mod seeds;

pub use input::{Action, Input, Piece, Setup};
pub use play::{Format, play};
