//! Indirect descriptor tables (VIRTIO 1.3, 2.7.5.3 and 2.8.7).

use super::table::Table;
use super::{Chain, Descriptor, DriverFault};
use crate::limits::DESCRIPTORS_MAX;
use crate::mem::{Direction, Iova, Segment};

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: usize = 16;

/// An indirect table that lies in one region as a whole.
struct Whole<'table> {
    memory: Segment<'table>,
    size: u16,
}

impl<'table> Whole<'table> {
    /// Returns the table of `holder` if it is in the region that was last read from, and no longer than a
    /// chain may be.
    #[inline]
    fn new(holder: Descriptor, chain: &Chain<'table>) -> Option<Self> {
        let bytes = holder.bytes as usize;
        let sound = bytes.is_multiple_of(DESCRIPTOR_BYTES)
            && bytes <= DESCRIPTORS_MAX * DESCRIPTOR_BYTES
            && !holder.has_next();
        let memory = chain
            .translator
            .readable_again(holder.address, bytes as u64)?;
        sound.then_some(Self {
            memory,
            size: (bytes / DESCRIPTOR_BYTES) as u16,
        })
    }

    /// Returns the two words of entry `index`, zeros when it is outside.
    #[inline]
    fn words(&self, index: u16) -> (u64, u64) {
        let offset = usize::from(index) * DESCRIPTOR_BYTES;
        self.memory.load_two_u64(offset).unwrap_or((0, 0))
    }
}

/// The table of a split ring: its descriptors are linked.
struct Linked<'table>(Whole<'table>);

impl Table for Linked<'_> {
    #[inline]
    fn descriptor(&self, index: u16) -> Descriptor {
        let (address, rest) = self.0.words(index);
        Descriptor::from_split(address, rest)
    }

    #[inline]
    fn is_last(&self, _: u16, descriptor: Descriptor) -> bool {
        !descriptor.has_next()
    }

    #[inline]
    fn next(&self, _: u16, descriptor: Descriptor) -> Option<u16> {
        descriptor.next().filter(|&next| next < self.0.size)
    }
}

/// The table of a packed ring: it is one chain.
struct Sequence<'table>(Whole<'table>);

impl Table for Sequence<'_> {
    #[inline]
    fn descriptor(&self, index: u16) -> Descriptor {
        let (address, rest) = self.0.words(index);
        Descriptor::from_packed(address, rest)
    }

    #[inline]
    fn is_last(&self, index: u16, _: Descriptor) -> bool {
        index + 1 == self.0.size
    }

    #[inline]
    fn next(&self, index: u16, _: Descriptor) -> Option<u16> {
        Some(index + 1)
    }
}

/// Follows the table of a split ring if the quick walk can. Returns whether it could.
#[inline]
pub(super) fn follow_linked_quickly(holder: Descriptor, chain: &mut Chain<'_>) -> bool {
    let Some(table) = Whole::new(holder, chain).map(Linked) else {
        return false;
    };
    let first = table.descriptor(0);
    chain.follow_quickly(&table, 0, first).is_some() && chain.len() <= usize::from(table.0.size)
}

/// Follows the table of a packed ring if the quick walk can. Returns whether it could.
#[inline]
pub(super) fn follow_sequence_quickly(holder: Descriptor, chain: &mut Chain<'_>) -> bool {
    let Some(table) = Whole::new(holder, chain).map(Sequence) else {
        return false;
    };
    let first = table.descriptor(0);
    chain.follow_quickly(&table, 0, first).is_some()
}

/// An indirect table that is read entry by entry, wherever each lies.
struct Scattered<'table> {
    address: Iova,
    /// As much of it as lies in one region.
    memory: Segment<'table>,
    /// Entries, as far as a chain may use them.
    size: u16,
}

impl<'table> Scattered<'table> {
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
    fn words(&self, index: u16, chain: &Chain<'_>) -> Result<(u64, u64), DriverFault> {
        let offset = usize::from(index) * DESCRIPTOR_BYTES;
        if let Some(words) = self.memory.load_two_u64(offset) {
            return Ok(words);
        }
        // It lies in another region than the start of the table, or in two.
        let mut bytes = [0; DESCRIPTOR_BYTES];
        // An address past the end of the address space is mapped nowhere either.
        let at = Iova(self.address.0.wrapping_add(offset as u64));
        chain.translator.table().read(at, &mut bytes)?;
        let words = u128::from_le_bytes(bytes);
        Ok((words as u64, (words >> 64) as u64))
    }
}

/// Follows the table of a split ring, whose descriptors are linked, and ends the chain.
pub(super) fn follow_linked(holder: Descriptor, chain: &mut Chain<'_>) {
    if let Err(fault) = linked(holder, chain) {
        chain.breach(fault);
    }
}

fn linked(holder: Descriptor, chain: &mut Chain<'_>) -> Result<(), DriverFault> {
    if holder.has_next() {
        return Err(DriverFault::IndirectNested);
    }
    let table = Scattered::new(holder, chain)?;
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
pub(super) fn follow_sequence(holder: Descriptor, chain: &mut Chain<'_>) {
    if let Err(fault) = sequence(holder, chain) {
        chain.breach(fault);
    }
}

fn sequence(holder: Descriptor, chain: &mut Chain<'_>) -> Result<(), DriverFault> {
    let table = Scattered::new(holder, chain)?;
    if holder.bytes as usize > DESCRIPTORS_MAX * DESCRIPTOR_BYTES {
        return Err(DriverFault::ChainTooLong(DESCRIPTORS_MAX));
    }
    let last = table.size - 1;
    for index in 0..=last {
        let (address, rest) = table.words(index, chain)?;
        // Every flag but WRITE means nothing here (2.8.7).
        let descriptor = Descriptor::from_packed(address, rest);
        let writable = chain.append(descriptor);
        if index == last {
            chain.end(descriptor, writable);
        }
    }
    Ok(())
}
