//! What the device side does with a virtqueue, whatever its format.

use super::{Backlog, Chain, Done, DriverFault, Head, RingState, UsedDescriptor};

/// The device side of one virtqueue. One thread owns it.
pub trait DeviceQueue {
    /// Whether a chain that cannot be returned holds all later ones back.
    const IN_ORDER: bool = false;

    /// Returns whether there is a chain to take.
    ///
    /// # Errors
    ///
    /// [`DriverFault`] when the ring itself makes no sense.
    fn has_available(&mut self) -> Result<bool, DriverFault>;

    /// Takes the next chain that the driver made available, if there is one, and resolves it into `chain`. A
    /// breach inside of the chain is kept there.
    ///
    /// # Errors
    ///
    /// [`DriverFault`] when the ring itself makes no sense; nothing is taken then.
    fn take(&mut self, chain: &mut Chain<'_>) -> Result<Option<Head>, DriverFault>;

    /// Asks for what of the ring is read to take the next chain, should that begin where the chain `id` did.
    #[inline]
    fn prefetch(&self, _id: u16) {}

    /// Undoes the last [`take`](Self::take), so that the next one takes this chain again.
    fn put_back(&mut self, head: Head);

    /// Returns a chain to the driver, which sees it at the next [`publish`](Self::publish).
    #[inline]
    fn push(&mut self, done: Done) {
        let slots = done.slots();
        self.push_batch(done, slots);
    }

    /// Returns a batch of chains that takes `slots` of the ring with one entry, that of its last chain
    /// (VIRTIO 1.3, 2.7.9 and 2.8.8). Only after IN_ORDER was negotiated.
    fn push_batch(&mut self, last: Done, slots: u16);

    /// Returns what [`publish`](Self::publish) is about to write over a packed ring, and how far that is then.
    #[inline]
    fn unpublished(&mut self) -> (RingState, &[UsedDescriptor]) {
        (self.state(), &[])
    }

    /// Shows the driver everything pushed.
    fn publish(&mut self);

    /// Returns what the driver has not taken back if it asked for an interrupt for something published
    /// since [`interrupt_settled`](Self::interrupt_settled); `None` if it did not ask.
    fn interrupt_wanted(&mut self) -> Option<Backlog>;

    /// Notes that the driver was interrupted for all that was published, or did not ask for it.
    fn interrupt_settled(&mut self);

    /// Tells the driver not to kick: this queue is polled.
    fn suppress_kicks(&mut self);

    /// Asks the driver to kick at the next chain. Returns whether one came in the meantime, in which
    /// case no kick will tell of it.
    ///
    /// # Errors
    ///
    /// [`DriverFault`] when the ring makes no sense.
    fn request_kick(&mut self) -> Result<bool, DriverFault>;

    /// Returns where to go on.
    fn state(&self) -> RingState;
}
