//! Memory shared with a driver: checked addresses, the region table, and the only loads and stores.

mod cell;
mod fault;
mod iova;
mod mapping;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod zero;

pub use cell::{SharedArray, SharedCell};
pub use fault::FaultGuard;
pub use iova::Iova;
pub use mapping::{Access, Mapping, MappingError};
pub use table::{Direction, Region, RegionTable, TableError, TranslateError};
pub use zero::zero;

/// Bytes of driver memory: bounds-checked, volatile, valid as long as the region table it came from.
pub type Segment<'table> = vm_memory::VolatileSlice<'table>;
