//! When the driver is interrupted.

use super::Service;
use crate::backend::BackendQueue;
use crate::worker::{Interrupt, Notifier};

impl<Q: BackendQueue, N: Notifier> Service<Q, N> {
    /// Interrupts the driver if it asked for that and has waited, or has enough to do then.
    #[inline]
    pub(super) fn moderate(&mut self) {
        let Some(poller) = &mut self.poller else {
            return;
        };
        match poller.interrupt_wanted() {
            None => {
                self.moderation.settle();
                poller.interrupt_settled();
            }
            Some(backlog) => {
                if self.moderation.completed(backlog, || self.clock.now()) == Interrupt::Raise {
                    self.interrupt();
                }
            }
        }
    }

    /// Interrupts the driver if it asked for that, whatever is on its way.
    pub(super) fn interrupt_if_wanted(&mut self) {
        let wanted = self
            .poller
            .as_mut()
            .and_then(|poller| poller.interrupt_wanted());
        if wanted.is_some() {
            self.interrupt();
        }
    }

    #[inline]
    pub(super) fn interrupt(&mut self) {
        let Some(poller) = &mut self.poller else {
            return;
        };
        poller.interrupt_settled();
        self.moderation.raised();
        self.depth.store(self.moderation.depth());
        self.counters.interrupts.add(1);
        if self.notifier.interrupt().is_err() {
            self.counters.interrupts_refused.add(1);
        }
    }
}
