//! Where the device sees the memory of the driver.

use std::sync::Arc;

use super::dma::{AddressSpace, Mapped, PAGE_BYTES};
use crate::mem::{RegionTable, Segment};

/// What the device can reach of a driver's memory. The rest goes through pages of our own.
#[derive(Debug, Default)]
pub(super) struct DriverMemory {
    windows: Vec<Window>,
    /// The one that was last hit.
    last: usize,
}

#[derive(Debug)]
struct Window {
    /// Where it is in this process.
    start: usize,
    bytes: usize,
    mapped: Mapped,
}

impl DriverMemory {
    /// Maps what can be mapped of `memory`: not where pages may not exist, as in VDUSE's own bounce pages.
    pub(super) fn new(space: &Arc<AddressSpace>, memory: &RegionTable) -> Self {
        let mut windows: Vec<Window> = Vec::new();
        for region in memory.regions() {
            let start = region.mapping.start() as usize;
            if !start.is_multiple_of(PAGE_BYTES as usize) {
                continue;
            }
            if let Ok(mapped) = space.map(&region.mapping) {
                windows.push(Window {
                    start,
                    bytes: mapped.mapping().len(),
                    mapped,
                });
            }
        }
        Self { windows, last: 0 }
    }

    /// Returns whether the device can take the data of `segments` from where it is: all of it is mapped and, as PRP entries
    /// have it, pieces meet at bounds of pages, and the first begins on a dword.
    #[inline]
    pub(super) fn is_reachable(&mut self, segments: &[Segment<'_>]) -> bool {
        let last = segments.len().saturating_sub(1);
        segments.iter().enumerate().all(|(index, segment)| {
            let Some(start) = self.address(segment) else {
                return false;
            };
            let end = start + segment.len() as u64;
            let alignment = if index == 0 { 4 } else { PAGE_BYTES };
            start.is_multiple_of(alignment) && (index == last || end.is_multiple_of(PAGE_BYTES))
        })
    }

    /// Returns where the device sees `segment`, if all of it is in one piece for it.
    #[inline]
    pub(super) fn address(&mut self, segment: &Segment<'_>) -> Option<u64> {
        let (start, bytes) = (segment.as_ptr() as usize, segment.len());
        let last = self.windows.get(self.last);
        if let Some(address) = last.and_then(|window| window.address(start, bytes)) {
            return Some(address);
        }
        let mut all = self.windows.iter().enumerate();
        let (index, address) =
            all.find_map(|(index, window)| Some((index, window.address(start, bytes)?)))?;
        self.last = index;
        Some(address)
    }
}

impl Window {
    #[inline]
    fn address(&self, start: usize, bytes: usize) -> Option<u64> {
        let offset = start.wrapping_sub(self.start);
        let inside = offset < self.bytes && bytes <= self.bytes - offset;
        inside.then(|| self.mapped.address() + offset as u64)
    }
}
