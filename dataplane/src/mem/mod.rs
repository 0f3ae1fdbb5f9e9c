//! Memory shared with a driver: checked addresses, the region table, and the only loads and stores.

mod cell;
mod fault;
mod iova;
pub(crate) mod kill;
mod mapping;
mod prefetch;
mod segment;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod translator;

pub use cell::{Shared, SharedArray, SharedCell};
pub use fault::FaultGuard;
pub use iova::Iova;
pub use mapping::{Access, Mapping, MappingError};
pub(crate) use prefetch::prefetch;
pub use segment::Segment;
pub use table::{Direction, Region, RegionTable, TableError, TranslateError};
pub use translator::Translator;
