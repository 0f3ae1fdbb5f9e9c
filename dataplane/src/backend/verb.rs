//! What a pending request is to do, without its data and ranges.

/// One of the operations of virtio-blk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes { unmap: bool },
}
