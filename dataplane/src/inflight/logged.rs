//! What is written down of a virtqueue of each format, and how it goes on from that.

use super::QueueLog;
use super::packed_log::Recovered;
use super::queue_log::Format;
use crate::ring::{DeviceQueue, Head, InOrder, PackedQueue, RingState, SetupError, SplitQueue};

/// A virtqueue whose requests in flight survive the process that serves it.
pub trait Logged: DeviceQueue {
    /// Begins a log with nothing in flight.
    fn begin(&self, log: &mut QueueLog);

    /// Notes that `head` was taken, before the backend learns of it.
    #[inline]
    fn taken(_: &mut QueueLog, _: &Head) {}

    /// Notes that the backend keeps `head`, which was taken last.
    #[inline]
    fn kept(&self, _: &mut QueueLog, _: &Head) {}

    /// Notes that the chain `id` goes back with the next publication.
    #[inline]
    fn returned(_: &mut QueueLog, _id: u16) {}

    /// Shows the driver everything pushed.
    fn publish_logged(&mut self, log: &mut QueueLog);

    /// Goes on where a worker that was killed left the queue: what it had in flight is taken again first.
    ///
    /// # Errors
    ///
    /// [`SetupError`] when ring and log do not match, or when the ring alone does not tell and there is no log.
    fn take_over(&mut self, log: Option<&mut QueueLog>) -> Result<(), SetupError>;
}

impl Logged for SplitQueue {
    fn begin(&self, log: &mut QueueLog) {
        log.end();
        log.split.begin(self.state().next_used);
        log.serve(Format::Split);
    }

    #[inline]
    fn taken(log: &mut QueueLog, head: &Head) {
        log.split.taken(head.id());
    }

    #[inline]
    fn returned(log: &mut QueueLog, id: u16) {
        log.split.returned(id);
    }

    #[inline]
    fn publish_logged(&mut self, log: &mut QueueLog) {
        self.publish();
        log.split.published(self.state().next_used);
    }

    fn take_over(&mut self, log: Option<&mut QueueLog>) -> Result<(), SetupError> {
        let used_idx = self.state().next_used;
        let heads = match log {
            Some(log) if log.serves(Format::Split) => {
                log.split.recover(used_idx, |index| self.returned_at(index))
            }
            Some(log) => {
                self.begin(log);
                Vec::new()
            }
            None => Vec::new(),
        };
        self.take_again(heads)
    }
}

impl Logged for PackedQueue {
    fn begin(&self, log: &mut QueueLog) {
        begin_packed(log, self.state());
    }

    #[inline]
    fn kept(&self, log: &mut QueueLog, head: &Head) {
        if let Some(descriptors) = self.descriptors(head) {
            log.packed.keep(head.id(), descriptors);
        }
    }

    #[inline]
    fn publish_logged(&mut self, log: &mut QueueLog) {
        publish_packed(self, log);
    }

    fn take_over(&mut self, log: Option<&mut QueueLog>) -> Result<(), SetupError> {
        match left_packed(log, self.state())? {
            Some(left) => self.go_on_at(left.state, &left.used, left.in_flight),
            None => Ok(()),
        }
    }
}

/// What was taken and not returned is all that is in the ring from the first used entry on.
impl Logged for InOrder<SplitQueue> {
    fn begin(&self, log: &mut QueueLog) {
        log.end();
    }

    #[inline]
    fn publish_logged(&mut self, _: &mut QueueLog) {
        self.publish();
    }

    fn take_over(&mut self, _: Option<&mut QueueLog>) -> Result<(), SetupError> {
        self.queue().take_again(Vec::new())
    }
}

/// As with a split ring, once what was to be published is.
impl Logged for InOrder<PackedQueue> {
    fn begin(&self, log: &mut QueueLog) {
        begin_packed(log, self.state());
    }

    #[inline]
    fn publish_logged(&mut self, log: &mut QueueLog) {
        publish_packed(self, log);
    }

    fn take_over(&mut self, log: Option<&mut QueueLog>) -> Result<(), SetupError> {
        let Some(mut left) = left_packed(log, self.state())? else {
            return Ok(());
        };
        left.state.next_avail = left.state.next_used;
        self.queue().go_on_at(left.state, &left.used, Vec::new())
    }
}

fn begin_packed(log: &mut QueueLog, state: RingState) {
    log.end();
    log.packed.begin(state);
    log.serve(Format::Packed);
}

/// Shows the driver what was pushed, once the log has it.
#[inline]
fn publish_packed(queue: &mut impl DeviceQueue, log: &mut QueueLog) {
    let (state, used) = queue.unpublished();
    if used.is_empty() {
        return;
    }
    log.packed.commit(state, used);
    queue.publish();
    log.packed.published();
}

/// Returns where a worker left a packed ring; none when it had not begun, which it does here, at `state`.
fn left_packed(
    log: Option<&mut QueueLog>,
    state: RingState,
) -> Result<Option<Recovered>, SetupError> {
    let log = log.ok_or(SetupError::NoLog)?;
    if log.serves(Format::Packed) {
        return Ok(Some(log.packed.recover()));
    }
    begin_packed(log, state);
    Ok(None)
}
