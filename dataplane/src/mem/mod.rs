//! Memory shared with a driver: checked addresses, the region table, and the only loads and stores.

mod cell;
mod dump;
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
pub(crate) use dump::leave_out_of_core_dumps;
pub use fault::FaultGuard;
pub use iova::Iova;
pub use mapping::{Access, Mapping, MappingError};
pub(crate) use prefetch::prefetch;
pub use segment::Segment;
pub use table::{Direction, Region, RegionTable, TableError, TranslateError};
pub use translator::Translator;
