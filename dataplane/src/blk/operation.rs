//! What a backend is asked to do: checked against the geometry, its memory resolved.

use super::SectorRange;
use crate::mem::Segment;

/// Data of a request, in order, without its header and status.
pub type Data<'chain, 'table> = &'chain [Segment<'table>];

/// One operation on the storage.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'chain, 'table> {
    /// Fill all of `into` from `range`, which is as long.
    Read {
        /// Whole blocks on the disk.
        range: SectorRange,
        /// Driver memory.
        into: Data<'chain, 'table>,
    },
    /// Store `from` to `range`, which is as long.
    Write {
        /// Whole blocks on the disk.
        range: SectorRange,
        /// Driver memory.
        from: Data<'chain, 'table>,
    },
    /// Make every completed write of the device durable, whatever queue it came through.
    Flush,
    /// The contents of these ranges are no longer needed.
    Discard(&'chain [SectorRange]),
    /// The contents of these ranges, whole blocks, and every copy of them on the storage are gone for good.
    SecureErase(&'chain [SectorRange]),
    /// These ranges read as zeros from now on.
    WriteZeroes {
        /// Whole blocks on the disk.
        ranges: &'chain [SectorRange],
        /// They may be deallocated.
        unmap: bool,
    },
}

impl Operation<'_, '_> {
    /// Returns the bytes that are read from or written to driver memory.
    pub fn data_bytes(&self) -> u64 {
        match self {
            Self::Read { range, .. } | Self::Write { range, .. } => range.bytes(),
            Self::Flush | Self::Discard(_) | Self::SecureErase(_) | Self::WriteZeroes { .. } => 0,
        }
    }
}
