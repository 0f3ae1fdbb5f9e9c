//! The driver's memory: one region with the rings, one adjacent to it, one apart, and one whose second page
//! does not exist. Made once, used by every case. Pages that nobody may touch lie around each.

#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use pollux_dataplane::driver::DriverMemory;
use pollux_dataplane::mem::{Access, Direction, Iova, Mapping, Region, RegionTable};

use crate::input::Piece;

const PAGE_BYTES: u64 = 4096;
/// Room for the rings, tables and requests of the largest queue, and a page that no request has.
const RINGS_BYTES: u64 = 48 * PAGE_BYTES;
pub(crate) const NEAR_BYTES: u64 = 18 * PAGE_BYTES;
const APART_BYTES: u64 = 4 * PAGE_BYTES;
const APART: Iova = Iova(0x8000_0000);
const MISSING: Iova = Iova(1 << 40);

/// What the device may do with the region that lies apart.
const ACCESSES: [Access; 3] = [Access::ReadWrite, Access::ReadOnly, Access::WriteOnly];

/// The regions, and every map that is made of them.
pub(crate) struct Memory {
    /// The first region, which the rings are in.
    pub(crate) driver: DriverMemory,
    first: Iova,
    near: Region,
    apart: Region,
    /// By access, then by which regions are missing.
    maps: Vec<Arc<RegionTable>>,
}

/// Regions of a map: all; all but one; the first only.
const SETS: [[bool; 3]; 5] = [
    [true, true, true],
    [true, true, false],
    [true, false, true],
    [false, true, true],
    [false, false, false],
];

impl Memory {
    pub(crate) fn new() -> Self {
        let driver = DriverMemory::new(RINGS_BYTES).expect("memory");
        let table = driver.table();
        let rings = table.regions()[0].clone();
        guard(&rings);
        let near = region(
            Iova(rings.last.0 + 1),
            NEAR_BYTES,
            &file(NEAR_BYTES),
            Access::ReadWrite,
        );
        let missing = region(
            MISSING,
            2 * PAGE_BYTES,
            &file(PAGE_BYTES),
            Access::ReadWrite,
        );
        let shared = file(APART_BYTES);
        let apart = ACCESSES.map(|access| region(APART, APART_BYTES, &shared, access));
        let mut maps = Vec::new();
        for apart in &apart {
            for [has_near, has_apart, has_missing] in SETS {
                let others = [
                    (has_near, &near),
                    (has_apart, apart),
                    (has_missing, &missing),
                ];
                let others = others.into_iter().filter(|(is_in, _)| *is_in);
                let regions = std::iter::once(&rings).chain(others.map(|(_, region)| region));
                let table = RegionTable::new(regions.cloned().collect());
                maps.push(Arc::new(table.expect("regions that do not overlap")));
            }
        }
        let [apart, ..] = apart;
        Self {
            first: rings.first,
            driver,
            near,
            apart,
            maps,
        }
    }

    /// Forgets everything that was allocated, and makes the memory zero again.
    pub(crate) fn clear(&mut self) {
        self.driver.clear();
        for region in [&self.near, &self.apart] {
            let bytes = region.last.0 - region.first.0 + 1;
            let whole = self.maps[0].segment(region.first, bytes, Direction::Writable);
            whole.expect("the region is in the map").zero();
        }
    }

    /// Returns the map that `choice` stands for, and whether the regions that requests use are all in it.
    pub(crate) fn map(&self, choice: u8) -> (Arc<RegionTable>, bool) {
        let access = usize::from(choice) % ACCESSES.len();
        // Most maps have all regions.
        let set = (usize::from(choice) / ACCESSES.len() % 8).saturating_sub(3);
        let map = &self.maps[access * SETS.len() + set];
        (Arc::clone(map), SETS[set][0])
    }

    /// Returns where the first region ends and the near one begins.
    pub(crate) fn border(&self) -> Iova {
        self.near.first
    }

    /// Returns the first address.
    pub(crate) fn first(&self) -> Iova {
        self.first
    }

    /// Writes to addresses of the first and the near region, across their border where they meet.
    pub(crate) fn write(&self, at: Iova, bytes: &[u8]) {
        let table = &self.maps[0];
        let mut done = 0;
        while done < bytes.len() {
            let (at, left) = (Iova(at.0 + done as u64), (bytes.len() - done) as u64);
            let segment = table.prefix(at, left, Direction::Writable);
            done += segment.expect("mapped memory").copy_from(&bytes[done..]);
        }
    }

    /// Reads what [`write`](Self::write) writes.
    pub(crate) fn read(&self, at: Iova, bytes: &mut [u8]) {
        let read = self.maps[0].read(at, bytes);
        read.expect("mapped memory");
    }

    /// Returns the address and length that `piece` stands for: mostly in the regions or over their ends.
    pub(crate) fn place(&self, piece: Piece) -> (Iova, u32) {
        let offset = u64::from(piece.offset);
        let border = self.border().0;
        let address = match piece.region % 12 {
            // The rings, tables and requests themselves.
            0 | 1 => self.first.0 + offset,
            2 => self.first.0 + (offset << 4) % RINGS_BYTES,
            3 | 4 => border - 256 + offset % 512,
            5 => border + offset % NEAR_BYTES,
            6 => border + NEAR_BYTES - 1 - offset % 256,
            7 => APART.0 + offset % APART_BYTES,
            8 => APART.0 + APART_BYTES - 1 - offset % 256,
            9 => MISSING.0 + offset % (2 * PAGE_BYTES),
            10 => u64::MAX - offset,
            _ => (offset << 32).wrapping_sub(offset % 16),
        };
        let length = u32::from(piece.length);
        let bytes = match length >> 14 {
            0 | 1 => length & 0xfff,
            2 => (length & 0x3f) * 512,
            _ => ((length & 0xfff) << 20).wrapping_sub(length & 1),
        };
        (Iova(address), bytes)
    }
}

fn file(bytes: u64) -> OwnedFd {
    let file = memfd_create("region", MFdFlags::MFD_CLOEXEC).expect("a memfd");
    nix::unistd::ftruncate(&file, bytes as i64).expect("ftruncate");
    file
}

fn region(first: Iova, bytes: u64, file: &OwnedFd, access: Access) -> Region {
    let file = file.try_clone().expect("a descriptor");
    let mapping = Mapping::new(file, 0, bytes, access).expect("a mapping");
    let region = Region {
        first,
        last: Iova(first.0 + bytes - 1),
        mapping: Arc::new(mapping),
    };
    guard(&region);
    region
}

/// Maps pages that nobody may touch before and behind `region`, unless something else is there.
fn guard(region: &Region) {
    let table = RegionTable::new(vec![region.clone()]).expect("one region");
    let direction = match region.mapping.access() {
        Access::WriteOnly => Direction::Writable,
        Access::ReadOnly | Access::ReadWrite => Direction::Readable,
    };
    let bytes = region.last.0 - region.first.0 + 1;
    let memory = table.segment(region.first, bytes, direction);
    let start = memory.expect("the whole region").as_ptr() as usize;
    for at in [start - PAGE_BYTES as usize, start + bytes as usize] {
        let page = NonZeroUsize::new(PAGE_BYTES as usize).expect("a page");
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: NOREPLACE maps nothing where something is mapped already, and nobody knows these pages.
        let _ = unsafe { mmap_anonymous(NonZeroUsize::new(at), page, ProtFlags::PROT_NONE, flags) };
    }
}
