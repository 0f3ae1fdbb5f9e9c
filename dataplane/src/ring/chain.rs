//! A descriptor chain resolved to memory: what the device may read, then what it may write.

use super::segments::Segments;
use super::table::Table;
use super::{Descriptor, DriverFault};
use crate::limits::SEGMENTS_MAX;
use crate::mem::{Direction, Iova, Segment, Translator};

/// The memory of one chain. Large: make one a pass and use it again for each chain.
///
/// A chain as nearly all are, in the regions that were hit last and without a breach, is followed by the quick
/// walk, which knows nothing else. Where that gives up, the ring follows the chain again from its start,
/// with what the quick walk found forgotten.
#[derive(Debug)]
pub struct Chain<'table> {
    pub(super) translator: &'table Translator,
    /// In order: first what the driver wrote for the device, then where the device answers.
    segments: Segments<'table>,
    /// How many of them are readable.
    readable: usize,
    /// The address of the chain's last byte.
    last_byte: Iova,
    /// The quick walk found all of it: it is answerable and without fault, whatever those fields say.
    quick: bool,
    /// The chain has an end, and its last buffer is writable and mapped.
    answerable: bool,
    /// The first breach. The walk goes on behind a bad buffer, to find the status byte.
    fault: Option<DriverFault>,
}

impl<'table> Chain<'table> {
    /// Returns an empty chain whose memory `translator` finds.
    #[inline]
    pub fn new(translator: &'table Translator) -> Self {
        Self {
            translator,
            segments: Segments::new(),
            readable: 0,
            last_byte: Iova(0),
            quick: false,
            answerable: false,
            fault: None,
        }
    }

    /// Returns what the driver wrote for the device.
    #[inline]
    pub fn readable(&self) -> &[Segment<'table>] {
        &self.segments.as_slice()[..self.readable]
    }

    /// Returns where the device answers.
    #[inline]
    pub fn writable(&self) -> &[Segment<'table>] {
        &self.segments.as_slice()[self.readable..]
    }

    /// Returns both, for cutting a header and a status off.
    #[inline]
    pub fn split_mut(&mut self) -> (&mut [Segment<'table>], &mut [Segment<'table>]) {
        self.segments.as_mut_slice().split_at_mut(self.readable)
    }

    /// Returns the chain's last byte, where a block request has its status, and its address; `None` when the
    /// chain has no end or its last buffer is not writable.
    #[inline]
    pub fn last_writable(&self) -> Option<(Segment<'table>, Iova)> {
        if !self.quick && !self.answerable {
            return None;
        }
        let segment = self.segments.as_slice().last()?;
        Some((segment.skip(segment.len() - 1), self.last_byte))
    }

    /// Returns the driver's first breach of the specification in this chain.
    #[inline]
    pub fn fault(&self) -> Option<DriverFault> {
        if self.quick { None } else { self.fault }
    }

    /// Returns all segments and how many of them are readable, of a chain without fault that has at least a
    /// readable one at its start and a writable one at its end; `None` for most others too.
    #[inline]
    pub fn plain(&self) -> Option<(&[Segment<'table>], usize)> {
        self.quick
            .then(|| (self.segments.as_slice(), self.readable))
    }

    /// The quick walk, from `first` on at `index`. Returns the last descriptor; `None` when it gives up.
    #[inline]
    pub(super) fn follow_quickly(
        &mut self,
        table: &impl Table,
        mut index: u16,
        first: Descriptor,
    ) -> Option<Descriptor> {
        let mut segments = self.segments.writer();
        let mut descriptor = first;
        while descriptor.is_readable_buffer() {
            let Descriptor { address, bytes, .. } = descriptor;
            let segment = self.translator.readable_again(address, u64::from(bytes))?;
            // Something writable must follow, or there is no room for an answer.
            if !segments.push(segment) || table.is_last(index, descriptor) {
                return None;
            }
            index = table.next(index, descriptor)?;
            descriptor = table.descriptor(index);
        }
        let readable = segments.len();
        while descriptor.is_writable_buffer() {
            let Descriptor { address, bytes, .. } = descriptor;
            let segment = self.translator.writable_again(address, u64::from(bytes))?;
            if !segments.push(segment) {
                return None;
            }
            if table.is_last(index, descriptor) {
                segments.finish();
                self.readable = readable;
                self.last_byte = last_byte(descriptor);
                self.quick = true;
                return Some(descriptor);
            }
            index = table.next(index, descriptor)?;
            descriptor = table.descriptor(index);
        }
        None
    }

    /// Returns how many segments there are: after the quick walk, one a descriptor.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Forgets the last chain.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.readable = 0;
        self.quick = false;
        self.answerable = false;
        self.fault = None;
    }

    /// Notes a breach; the first one stays.
    #[cold]
    pub(super) fn breach(&mut self, fault: DriverFault) {
        self.fault.get_or_insert(fault);
    }

    /// Ends the chain with `last`, which [`append`](Self::append) has called `writable`.
    #[inline]
    pub(super) fn end(&mut self, last: Descriptor, writable: bool) {
        self.last_byte = last_byte(last);
        self.answerable = writable;
    }

    /// Resolves one buffer, in pieces where it spans adjacent regions. Returns whether the device may write
    /// all of it.
    pub(super) fn append(&mut self, descriptor: Descriptor) -> bool {
        match self.append_pieces(descriptor) {
            Ok(()) => descriptor.direction() == Direction::Writable,
            Err(fault) => {
                self.breach(fault);
                false
            }
        }
    }

    fn append_pieces(&mut self, descriptor: Descriptor) -> Result<(), DriverFault> {
        let direction = descriptor.direction();
        if descriptor.bytes == 0 {
            return Err(DriverFault::EmptyBuffer(descriptor.address));
        }
        if direction == Direction::Readable && self.readable < self.segments.len() {
            return Err(DriverFault::ReadableAfterWritable);
        }
        let mut address = descriptor.address;
        let mut left = u64::from(descriptor.bytes);
        while left > 0 {
            let segment = self.translator.prefix(address, left, direction)?;
            if !self.segments.push(segment) {
                return Err(DriverFault::ChainTooLong(SEGMENTS_MAX));
            }
            self.readable += usize::from(direction == Direction::Readable);
            let bytes = segment.len() as u64;
            left -= bytes;
            // A region's last address is at most u64::MAX, so this wraps only behind the last piece.
            address = Iova(address.0.wrapping_add(bytes));
        }
        Ok(())
    }
}

/// Returns the address of the last byte of the buffer in `descriptor`, which is in the address space where the
/// buffer is mapped.
#[inline]
fn last_byte(descriptor: Descriptor) -> Iova {
    let before = u64::from(descriptor.bytes).wrapping_sub(1);
    Iova(descriptor.address.0.wrapping_add(before))
}
