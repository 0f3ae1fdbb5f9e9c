//! Indirect descriptor tables (VIRTIO 1.3, 2.7.5.3 and 2.8.7).

use super::{Chain, Descriptor, DriverFault};
use crate::limits::DESCRIPTORS_MAX;
use crate::mem::{Direction, Iova, Segment};

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: usize = 16;

/// An indirect table: read where it is, each descriptor once.
struct Table<'table> {
    address: Iova,
    /// As much of it as lies in one region.
    memory: Segment<'table>,
    /// Entries, as far as a chain may use them.
    size: u16,
}

impl<'table> Table<'table> {
    #[inline]
    fn new(holder: Descriptor, chain: &mut Chain<'table>) -> Result<Self, DriverFault> {
        let bytes = holder.bytes as usize;
        if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR_BYTES) {
            return Err(DriverFault::IndirectLength(holder.bytes));
        }
        let memory = chain
            .translator
            .prefix(holder.address, bytes as u64, Direction::Readable)?;
        Ok(Self {
            address: holder.address,
            memory,
            size: (bytes / DESCRIPTOR_BYTES).min(DESCRIPTORS_MAX) as u16,
        })
    }

    /// Returns the two words of entry `index`.
    #[inline]
    fn words(&self, index: u16, chain: &Chain<'_>) -> Result<(u64, u64), DriverFault> {
        let offset = usize::from(index) * DESCRIPTOR_BYTES;
        match (
            self.memory.load_u64(offset),
            self.memory.load_u64(offset + 8),
        ) {
            (Some(address), Some(rest)) => Ok((address, rest)),
            _ => self.words_across(offset, chain),
        }
    }

    /// The entry lies in another region than the start of the table, or in two.
    #[cold]
    fn words_across(&self, offset: usize, chain: &Chain<'_>) -> Result<(u64, u64), DriverFault> {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        // An address past the end of the address space is mapped nowhere either.
        let at = Iova(self.address.0.wrapping_add(offset as u64));
        chain.translator.table().read(at, &mut bytes)?;
        let words = u128::from_le_bytes(bytes);
        Ok((words as u64, (words >> 64) as u64))
    }
}

/// Follows the table of a split ring, whose descriptors are linked, and ends the chain.
#[inline]
pub(super) fn follow_linked(holder: Descriptor, chain: &mut Chain<'_>) {
    if let Err(fault) = linked(holder, chain) {
        chain.breach(fault);
    }
}

#[inline]
fn linked(holder: Descriptor, chain: &mut Chain<'_>) -> Result<(), DriverFault> {
    if holder.has_next() {
        return Err(DriverFault::IndirectNested);
    }
    let table = Table::new(holder, chain)?;
    let size = table.size;
    let mut index = 0;
    // The table has a length of its own: descriptors before it (2.7.5.3.2) do not count.
    for _ in 0..size {
        let (address, rest) = table.words(index, chain)?;
        let descriptor = Descriptor::from_split(address, rest);
        if descriptor.is_indirect() {
            return Err(DriverFault::IndirectNested);
        }
        let writable = chain.append(descriptor);
        match descriptor.next() {
            None => {
                chain.end(descriptor, writable);
                return Ok(());
            }
            Some(next) if next < size => index = next,
            Some(next) => return Err(DriverFault::NextOutOfRange { next, size }),
        }
    }
    Err(DriverFault::ChainTooLong(usize::from(size)))
}

/// Follows the table of a packed ring, which is all of it one chain, and ends that.
#[inline]
pub(super) fn follow_sequence(holder: Descriptor, chain: &mut Chain<'_>) {
    if let Err(fault) = sequence(holder, chain) {
        chain.breach(fault);
    }
}

#[inline]
fn sequence(holder: Descriptor, chain: &mut Chain<'_>) -> Result<(), DriverFault> {
    let table = Table::new(holder, chain)?;
    if holder.bytes as usize > DESCRIPTORS_MAX * DESCRIPTOR_BYTES {
        return Err(DriverFault::ChainTooLong(DESCRIPTORS_MAX));
    }
    let last = table.size - 1;
    for index in 0..=last {
        let (address, rest) = table.words(index, chain)?;
        let descriptor = Descriptor::from_packed(address, rest);
        if descriptor.is_indirect() {
            return Err(DriverFault::IndirectNested);
        }
        let writable = chain.append(descriptor);
        if index == last {
            chain.end(descriptor, writable);
        }
    }
    Ok(())
}
