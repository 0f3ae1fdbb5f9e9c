//! A descriptor chain resolved to memory: what the device may read, then what it may write.

use arrayvec::ArrayVec;

use super::{Descriptor, DriverFault};
use crate::limits::SEGMENTS_MAX;
use crate::mem::{Direction, Iova, RegionTable, Segment, Translator};

/// The memory of one chain. Large: make one a pass and use it again for each chain.
#[derive(Debug)]
pub struct Chain<'table> {
    pub(super) translator: Translator<'table>,
    /// In order: first what the driver wrote for the device, then where the device answers.
    segments: ArrayVec<Segment<'table>, SEGMENTS_MAX>,
    /// How many of them are readable.
    readable: usize,
    /// The address of the chain's last byte, where it is writable and mapped.
    last_writable: Option<Iova>,
    /// The first breach. The walk goes on behind a bad buffer, to find the status byte.
    fault: Option<DriverFault>,
}

impl<'table> Chain<'table> {
    /// Returns an empty chain whose memory comes from `table`.
    #[inline]
    pub fn new(table: &'table RegionTable) -> Self {
        Self {
            translator: Translator::new(table),
            segments: ArrayVec::new(),
            readable: 0,
            last_writable: None,
            fault: None,
        }
    }

    /// Returns what the driver wrote for the device.
    #[inline]
    pub fn readable(&self) -> &[Segment<'table>] {
        &self.segments[..self.readable]
    }

    /// Returns where the device answers.
    #[inline]
    pub fn writable(&self) -> &[Segment<'table>] {
        &self.segments[self.readable..]
    }

    /// Returns both, for cutting a header and a status off.
    #[inline]
    pub fn split_mut(&mut self) -> (&mut [Segment<'table>], &mut [Segment<'table>]) {
        self.segments.split_at_mut(self.readable)
    }

    /// Returns the chain's last byte, where a block request has its status, and its address; `None` when the
    /// chain has no end or its last buffer is not writable.
    #[inline]
    pub fn last_writable(&self) -> Option<(Segment<'table>, Iova)> {
        let iova = self.last_writable?;
        let segment = self.segments.last()?;
        Some((segment.skip(segment.len() - 1), iova))
    }

    /// Returns the driver's first breach of the specification in this chain.
    #[inline]
    pub fn fault(&self) -> Option<DriverFault> {
        self.fault
    }

    /// Forgets the last chain.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.readable = 0;
        self.last_writable = None;
        self.fault = None;
    }

    /// Notes a breach; the first one stays.
    #[cold]
    pub(super) fn breach(&mut self, fault: DriverFault) {
        self.fault.get_or_insert(fault);
    }

    /// Ends the chain with `last`, appended before with the result `writable`.
    #[inline]
    pub(super) fn end(&mut self, last: Descriptor, writable: bool) {
        if writable {
            // The buffer is mapped, so its end is in the address space.
            let last_byte = u64::from(last.bytes).wrapping_sub(1);
            self.last_writable = Some(Iova(last.address.0.wrapping_add(last_byte)));
        }
    }

    /// Resolves one buffer. Returns whether the device may write all of it.
    #[inline]
    pub(super) fn append(&mut self, descriptor: Descriptor) -> bool {
        let direction = descriptor.direction();
        let bytes = u64::from(descriptor.bytes);
        let found = self.translator.prefix(descriptor.address, bytes, direction);
        let readable = usize::from(direction == Direction::Readable);
        // Readable buffers come first: each of them finds only such before it.
        let ordered = readable == 0 || self.readable == self.segments.len();
        match found {
            Ok(segment)
                if segment.len() as u64 == bytes
                    && bytes > 0
                    && ordered
                    && !self.segments.is_full() =>
            {
                self.segments.push(segment);
                self.readable += readable;
                readable == 0
            }
            _ => self.append_in_pieces(descriptor),
        }
    }

    /// Resolves a buffer that spans adjacent regions, or finds out what is wrong with it.
    #[cold]
    #[inline(never)]
    fn append_in_pieces(&mut self, descriptor: Descriptor) -> bool {
        match self.pieces(descriptor) {
            Ok(()) => descriptor.direction() == Direction::Writable,
            Err(fault) => {
                self.breach(fault);
                false
            }
        }
    }

    fn pieces(&mut self, descriptor: Descriptor) -> Result<(), DriverFault> {
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
            let too_long = DriverFault::ChainTooLong(SEGMENTS_MAX);
            self.segments.try_push(segment).map_err(|_| too_long)?;
            self.readable += usize::from(direction == Direction::Readable);
            let bytes = segment.len() as u64;
            left -= bytes;
            // A region's last address is at most u64::MAX, so this wraps only behind the last piece.
            address = Iova(address.0.wrapping_add(bytes));
        }
        Ok(())
    }
}
