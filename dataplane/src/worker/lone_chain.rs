//! What a driver with one request at a time uses again: the same descriptors and the same buffers.
//!
//! It has just written all of them on another CPU, and each tells where the next one is: their cache lines come one after
//! the other. Asked for at once, where the chain before had them, they come together.

use crate::mem::prefetch;
use crate::ring::{Chain, DeviceQueue};

/// The only chain of a pass. It may be gone.
#[derive(Debug)]
pub(super) struct LoneChain {
    id: u16,
    /// Address of its header in this process.
    header: usize,
}

impl LoneChain {
    /// Returns the chain `id`, if it was an ordinary one.
    #[inline]
    pub(super) fn of(id: u16, chain: &Chain<'_>) -> Option<Self> {
        let (segments, _) = chain.plain()?;
        let header = segments.first()?.as_ptr().addr();
        Some(Self { id, header })
    }

    /// Asks for what is read of the next chain of `queue`, should it be like this one.
    #[inline]
    pub(super) fn prefetch(&self, queue: &impl DeviceQueue) {
        queue.prefetch(self.id);
        prefetch(self.header);
    }
}
