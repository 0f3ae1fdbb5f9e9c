//! A descriptor chain resolved to memory: what the device may read, then what it may write.

use arrayvec::ArrayVec;

use super::descriptor::DESCRIPTOR_BYTES;
use super::{Descriptor, DriverFault};
use crate::limits::{DESCRIPTORS_MAX, SEGMENTS_MAX};
use crate::mem::{Direction, Iova, RegionTable, Segment};

/// Memory of one direction of a chain, in order.
pub type Segments<'table> = ArrayVec<Segment<'table>, SEGMENTS_MAX>;

/// The memory of one chain. Large: make one a pass and use it again for each chain.
#[derive(Debug)]
pub struct Chain<'table> {
    table: &'table RegionTable,
    /// What the driver wrote for the device.
    pub readable: Segments<'table>,
    /// Where the device answers.
    pub writable: Segments<'table>,
    /// Address of the last byte of the last buffer, if it is writable and mapped.
    last_writable: Option<Iova>,
    descriptors: usize,
    /// The first bad buffer. The walk goes on behind it, to find the status byte.
    fault: Option<DriverFault>,
}

impl<'table> Chain<'table> {
    /// Returns an empty chain whose memory comes from `table`.
    #[inline]
    pub fn new(table: &'table RegionTable) -> Self {
        Self {
            table,
            readable: Segments::new(),
            writable: Segments::new(),
            last_writable: None,
            descriptors: 0,
            fault: None,
        }
    }

    /// Returns the address of the chain's last byte, where a block request has its status; `None` when
    /// the chain has no end or its last buffer is not writable.
    pub fn last_writable(&self) -> Option<Iova> {
        self.last_writable
    }

    /// Forgets the last chain.
    #[inline]
    pub fn clear(&mut self) {
        self.readable.clear();
        self.writable.clear();
        self.last_writable = None;
        self.descriptors = 0;
        self.fault = None;
    }

    /// Follows the descriptors from `first` on, each read with `fetch` from a table of `size` entries
    /// and an indirect table at the end where `indirect` allows one.
    ///
    /// # Errors
    ///
    /// The first [`DriverFault`]. Where only a buffer was bad, the chain was followed to its end, so that
    /// its status byte can still be answered.
    #[inline]
    pub(super) fn follow(
        &mut self,
        first: u16,
        size: u16,
        indirect: bool,
        fetch: impl Fn(u16) -> Descriptor,
    ) -> Result<(), DriverFault> {
        self.clear();
        let walked = self.walk(first, size, indirect, fetch);
        if walked.is_err() {
            self.last_writable = None;
        }
        match self.fault {
            None => walked,
            Some(fault) => Err(fault),
        }
    }

    #[inline]
    fn walk(
        &mut self,
        first: u16,
        size: u16,
        indirect: bool,
        fetch: impl Fn(u16) -> Descriptor,
    ) -> Result<(), DriverFault> {
        let mut index = first;
        loop {
            let descriptor = fetch(index);
            if descriptor.is_indirect() {
                if !indirect {
                    return Err(DriverFault::IndirectNotNegotiated);
                }
                return self.walk_indirect(descriptor);
            }
            self.append(descriptor);
            match descriptor.next() {
                None => return Ok(()),
                Some(next) if next < size => index = next,
                Some(next) => return Err(DriverFault::NextOutOfRange { next, size }),
            }
            if self.descriptors >= usize::from(size) {
                return Err(DriverFault::ChainTooLong(usize::from(size)));
            }
        }
    }

    #[inline]
    fn walk_indirect(&mut self, holder: Descriptor) -> Result<(), DriverFault> {
        let count = holder.bytes as usize / DESCRIPTOR_BYTES;
        if holder.next().is_some() {
            return Err(DriverFault::IndirectNested);
        }
        if count == 0 || !(holder.bytes as usize).is_multiple_of(DESCRIPTOR_BYTES) {
            return Err(DriverFault::IndirectLength(holder.bytes));
        }
        let size = u16::try_from(count.min(DESCRIPTORS_MAX)).unwrap_or(u16::MAX);
        let mut index = 0;
        // The table has a length of its own: descriptors before it (2.7.5.3.2) do not count.
        let mut walked = 0;
        loop {
            let descriptor = self.fetch_indirect(holder.address, index)?;
            if descriptor.is_indirect() {
                return Err(DriverFault::IndirectNested);
            }
            self.append(descriptor);
            walked += 1;
            match descriptor.next() {
                None => return Ok(()),
                Some(next) if next < size => index = next,
                Some(next) => return Err(DriverFault::NextOutOfRange { next, size }),
            }
            if walked >= size {
                return Err(DriverFault::ChainTooLong(usize::from(size)));
            }
        }
    }

    #[inline]
    fn fetch_indirect(&self, table: Iova, index: u16) -> Result<Descriptor, DriverFault> {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        let offset = u64::from(index) * DESCRIPTOR_BYTES as u64;
        // An address past the end of the address space is mapped nowhere either.
        self.table
            .read(Iova(table.0.wrapping_add(offset)), &mut bytes)?;
        Ok(Descriptor::from_bytes(bytes))
    }

    #[inline]
    fn append(&mut self, descriptor: Descriptor) {
        self.descriptors += 1;
        self.last_writable = None;
        if let Err(fault) = self.append_buffer(descriptor) {
            self.fault.get_or_insert(fault);
        }
    }

    /// Resolves one buffer, in pieces where it spans adjacent regions.
    #[inline]
    fn append_buffer(&mut self, descriptor: Descriptor) -> Result<(), DriverFault> {
        let direction = descriptor.direction();
        if descriptor.bytes == 0 {
            return Err(DriverFault::EmptyBuffer(descriptor.address));
        }
        if direction == Direction::Readable && !self.writable.is_empty() {
            return Err(DriverFault::ReadableAfterWritable);
        }
        let segments = match direction {
            Direction::Readable => &mut self.readable,
            Direction::Writable => &mut self.writable,
        };
        let mut address = descriptor.address;
        let mut left = u64::from(descriptor.bytes);
        loop {
            let segment = self.table.prefix(address, left, direction)?;
            let length = segment.len() as u64;
            let too_long = DriverFault::ChainTooLong(SEGMENTS_MAX);
            segments.try_push(segment).map_err(|_| too_long)?;
            left -= length;
            // A region's last address is at most u64::MAX, so this wraps only behind the last piece.
            address = Iova(address.0.wrapping_add(length));
            if left == 0 {
                break;
            }
        }
        if direction == Direction::Writable {
            self.last_writable = Some(Iova(address.0.wrapping_sub(1)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::testing::region;

    const NEXT: u64 = 1 << 32;
    const WRITE: u64 = 2 << 32;
    const INDIRECT: u64 = 4 << 32;

    /// Follows a chain whose head table is `direct`, with `indirect` at address 0x1000.
    fn follow(direct: &[(u64, u64)], indirect: &[(u64, u64)]) -> Result<usize, DriverFault> {
        let table = RegionTable::new(vec![region(0x1000, 0x2000)]).unwrap();
        let entries: Vec<u8> = indirect
            .iter()
            .flat_map(|&(address, rest)| [address.to_le_bytes(), rest.to_le_bytes()].concat())
            .collect();
        let bytes = entries.len().max(1) as u64;
        let place = table.segment(Iova(0x1000), bytes, Direction::Writable);
        place.unwrap().copy_from(&entries);
        let mut chain = Chain::new(&table);
        chain.follow(0, direct.len() as u16, true, |index| {
            let (address, rest) = direct[usize::from(index)];
            Descriptor::from_words(address, rest)
        })?;
        Ok(chain.readable.len() + chain.writable.len())
    }

    #[test]
    fn descriptors_before_an_indirect_table_do_not_shorten_it() {
        let direct = [
            (0x2000, 16 | NEXT | 1 << 48),
            (0x2010, 16 | NEXT | 2 << 48),
            (0x1000, 32 | INDIRECT),
        ];
        let indirect = [(0x2020, 16 | NEXT | 1 << 48), (0x2030, 1 | WRITE)];
        assert_eq!(follow(&direct, &indirect), Ok(4));
    }

    #[test]
    fn a_loop_in_an_indirect_table_ends_at_its_length() {
        let direct = [(0x2000, 16 | NEXT | 1 << 48), (0x1000, 32 | INDIRECT)];
        let indirect = [(0x2020, 16 | NEXT | 1 << 48), (0x2030, 16 | NEXT)];
        let looped = follow(&direct, &indirect);
        assert_eq!(looped, Err(DriverFault::ChainTooLong(2)));
    }
}
