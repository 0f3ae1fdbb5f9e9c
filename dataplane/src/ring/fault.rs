//! What a driver can do wrong. Each of these breaks its own queue, and nothing else.

use crate::mem::{Iova, TranslateError};

/// A breach of the specification by the driver, found before anything was done on its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverFault {
    /// More entries became available than the queue holds.
    #[error("the avail index jumped from {from} to {to} in a queue of {size}")]
    AvailIndex {
        /// Next entry to take.
        from: u16,
        /// What the driver stored.
        to: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// An avail entry names no descriptor.
    #[error("avail entry {head} is outside of the queue of {size}")]
    HeadOutOfRange {
        /// The entry.
        head: u16,
        /// Entries of the queue.
        size: u16,
    },
    /// A chain was offered again before it was returned.
    #[error("descriptor chain {0} was made available while in flight")]
    HeadInFlight(u16),
    /// A descriptor's `next` names no descriptor.
    #[error("descriptor {next} is outside of its table of {size}")]
    NextOutOfRange {
        /// The field.
        next: u16,
        /// Entries of the table.
        size: u16,
    },
    /// A chain is longer than its table, so it loops, or longer than any queue.
    #[error("the descriptor chain loops or is longer than {0} descriptors")]
    ChainTooLong(usize),
    /// INDIRECT was set but never negotiated.
    #[error("an indirect descriptor without VIRTIO_RING_F_INDIRECT_DESC")]
    IndirectNotNegotiated,
    /// An indirect table inside an indirect table, or one that is followed by more descriptors.
    #[error("an indirect descriptor inside an indirect table or with a next descriptor")]
    IndirectNested,
    /// An indirect table whose length is no positive multiple of 16.
    #[error("an indirect table of {0} bytes")]
    IndirectLength(u32),
    /// A buffer of no bytes.
    #[error("a descriptor of zero bytes at {0}")]
    EmptyBuffer(Iova),
    /// A readable buffer after a writable one.
    #[error("a device-readable descriptor after a device-writable one")]
    ReadableAfterWritable,
    /// An address outside of the driver's memory, or used in the wrong direction.
    #[error(transparent)]
    Address(#[from] TranslateError),
    /// Memory that the driver named has no page behind it.
    #[error("memory named by a descriptor does not exist")]
    MemoryMissing,
    /// The request header is missing or short.
    #[error("{0} device-readable bytes are too few for a request header")]
    HeaderShort(usize),
    /// No writable byte to put the status into.
    #[error("no device-writable byte for the status")]
    StatusMissing,
}
