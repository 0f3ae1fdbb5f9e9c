//! Physical region pages: where the data of a command is (NVM Express base specification 2.0, 4.1.1).
//!
//! The first entry may begin anywhere in its page, on a dword; every other one is a whole page, but for the end of the last.
//! More than two are in a list, of which one page is enough here.

use arrayvec::ArrayVec;

use super::command::Prps;
use super::dma::PAGE_BYTES;
use crate::mem::Segment;

/// Most data bytes of a command, so that its list fits a page wherever the data begins.
pub(super) const COMMAND_BYTES_MAX: u64 = 1 << 20;

const ENTRY_BYTES: usize = 8;

/// The entries of one command.
#[derive(Debug, Default)]
pub(super) struct PrpEntries {
    first: u64,
    /// All but the first, as they lie in a list.
    rest: ArrayVec<u8, { PAGE_BYTES as usize }>,
}

const _: () =
    assert!((COMMAND_BYTES_MAX / PAGE_BYTES) as usize * ENTRY_BYTES < PAGE_BYTES as usize);

impl PrpEntries {
    /// Forgets all entries.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.first = 0;
        self.rest.clear();
    }

    /// Adds `bytes` bytes from `address` on, which go on where the ones before ended: both at a page's bound, unless these are
    /// the first or the last. Addresses are never 0.
    #[inline]
    pub(super) fn add(&mut self, address: u64, bytes: u64) {
        let mut address = address;
        let end = address + bytes;
        while address < end {
            if self.first == 0 {
                self.first = address;
            } else {
                // There is room: a command is at most so long.
                let _ = self.rest.try_extend_from_slice(&address.to_le_bytes());
            }
            address = (address / PAGE_BYTES + 1) * PAGE_BYTES;
        }
    }

    /// Returns both entries of the command. `list` is a page that the device sees at `list_address`, and takes
    /// what does not fit into them.
    #[inline]
    pub(super) fn prps(&self, list: &Segment<'_>, list_address: u64) -> Prps {
        let second = match self.rest.first_chunk() {
            None => 0,
            Some(entry) if self.rest.len() == ENTRY_BYTES => u64::from_le_bytes(*entry),
            Some(_) => {
                list.copy_from(&self.rest);
                list_address
            }
        };
        Prps {
            first: self.first,
            second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::MmapRegion;

    /// Returns the pages that a command gets for `parts`.
    fn entries(parts: &[(u64, u64)]) -> (Prps, Vec<u64>) {
        let region: MmapRegion = MmapRegion::new(4096).expect("memory");
        let list = Segment::of_region(&region, 0, 4096).expect("all of it");
        let mut entries = PrpEntries::default();
        for (address, bytes) in parts {
            entries.add(*address, *bytes);
        }
        let prps = entries.prps(&list, 0xf000);
        let mut bytes = [0; 4096];
        list.copy_to(&mut bytes);
        let words = bytes
            .chunks_exact(8)
            .map(|word| word.try_into().expect("8"));
        let listed = words.map(u64::from_le_bytes).take_while(|entry| *entry > 0);
        (prps, listed.collect())
    }

    #[test]
    fn one_or_two_pages_need_no_list() {
        let prps = |first, second| (Prps { first, second }, vec![]);
        assert_eq!(entries(&[(0x10000, 4096)]), prps(0x10000, 0));
        assert_eq!(entries(&[(0x10e00, 512)]), prps(0x10e00, 0));
        assert_eq!(entries(&[(0x10e00, 513)]), prps(0x10e00, 0x11000));
        assert_eq!(entries(&[(0x10004, 8188)]), prps(0x10004, 0x11000));
        let apart = entries(&[(0x10800, 0x800), (0x30000, 0x1000)]);
        assert_eq!(apart, prps(0x10800, 0x30000));
    }

    #[test]
    fn more_pages_are_in_a_list() {
        let (prps, list) = entries(&[(0x10200, 8192)]);
        assert_eq!((prps.first, prps.second), (0x10200, 0xf000));
        assert_eq!(list, [0x11000, 0x12000]);
        let (prps, list) = entries(&[(0x10000, 4096), (0x50000, 8192), (0x20000, 512)]);
        assert_eq!((prps.first, prps.second), (0x10000, 0xf000));
        assert_eq!(list, [0x50000, 0x51000, 0x20000]);
    }

    #[test]
    fn the_longest_command_fits_wherever_it_begins() {
        let (prps, list) = entries(&[(0x100ffc, COMMAND_BYTES_MAX)]);
        assert_eq!(prps.first, 0x100ffc);
        assert_eq!(list.len(), 256);
        assert_eq!(list.last(), Some(&0x200000));
    }
}
