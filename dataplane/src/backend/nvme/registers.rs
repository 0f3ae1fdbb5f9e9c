//! The registers of a controller (NVM Express base specification 2.0, 3.1.3), as they lie in its BAR 0.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::mem::{Direction, Iova, RegionTable, SharedCell, TranslateError};

/// Controller capabilities, 64 bits.
pub(super) const CAP: u64 = 0x00;
/// Controller configuration.
pub(super) const CC: u64 = 0x14;
/// Controller status.
pub(super) const CSTS: u64 = 0x1c;
/// Admin queue attributes.
pub(super) const AQA: u64 = 0x24;
/// Admin submission queue base address, 64 bits.
pub(super) const ASQ: u64 = 0x28;
/// Admin completion queue base address, 64 bits.
pub(super) const ACQ: u64 = 0x30;
/// The first doorbell.
pub(super) const DOORBELLS: u64 = 0x1000;

/// What a device that is gone answers to every read.
const GONE: u32 = u32::MAX;

/// CC: enabled, pages of 4 KiB, NVM command set, round robin; entries of 64 and 16 bytes.
pub(super) const CC_ENABLE: u32 = 1 | 6 << 16 | 4 << 20;
/// CC: a normal shutdown is notified.
pub(super) const CC_SHUTDOWN: u32 = 1 << 14;

/// CAP, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    /// Returns the most entries that a queue may have.
    pub(super) fn entries_max(self) -> u32 {
        // MQES counts from 0.
        (self.0 & 0xffff) as u32 + 1
    }

    /// Returns how long the controller may take to become ready, or to stop being so, in milliseconds.
    pub(super) fn ready_ms_max(self) -> u64 {
        // TO is in units of 500 ms.
        (self.0 >> 24 & 0xff) * 500
    }

    /// Returns the bytes from one doorbell to the next.
    fn doorbell_stride_bytes(self) -> u64 {
        4 << (self.0 >> 32 & 0xf)
    }

    /// Returns whether it can work in pages of 4 KiB, with the NVM command set.
    pub(super) fn is_usable(self) -> bool {
        // MPSMIN is 2^(12 + n); bit 0 of CSS is the NVM command set.
        self.0 >> 48 & 0xf == 0 && self.0 >> 37 & 1 == 1
    }
}

/// CSTS, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ControllerStatus(u32);

impl ControllerStatus {
    pub(super) fn is_ready(self) -> bool {
        self.0 & 1 == 1
    }

    /// Returns whether it has met an error that only a reset ends (CFS).
    pub(super) fn is_fatal(self) -> bool {
        self.0 & 2 == 2
    }

    /// Returns whether a shutdown is complete (SHST).
    pub(super) fn is_shut_down(self) -> bool {
        self.0 >> 2 & 3 == 2
    }

    pub(super) fn is_gone(self) -> bool {
        self.0 == GONE
    }
}

/// A register of 32 bits that is written only.
#[derive(Debug)]
pub(super) struct Doorbell(SharedCell<AtomicU32>);

impl Doorbell {
    /// Writes it; what was stored before is visible to the device by then.
    #[inline]
    pub(super) fn ring(&self, index: u16) {
        self.0.store(u32::from(index), Ordering::Release);
    }
}

/// The registers of one controller.
#[derive(Debug)]
pub(super) struct Registers {
    /// BAR 0, from address 0 on.
    bar: RegionTable,
    cc: SharedCell<AtomicU32>,
    csts: SharedCell<AtomicU32>,
    capabilities: Capabilities,
}

impl Registers {
    /// Returns the registers in `bar`.
    pub(super) fn new(bar: RegionTable) -> Result<Self, TranslateError> {
        let cell = |offset| bar.cell::<AtomicU32>(Iova(offset), Direction::Writable);
        let half = |offset| Ok(u64::from(cell(offset)?.load(Ordering::Acquire)));
        let capabilities = Capabilities(half(CAP)? | half(CAP + 4)? << 32);
        Ok(Self {
            cc: cell(CC)?,
            csts: cell(CSTS)?,
            capabilities,
            bar,
        })
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub(super) fn status(&self) -> ControllerStatus {
        ControllerStatus(self.csts.load(Ordering::Acquire))
    }

    pub(super) fn configure(&self, cc: u32) {
        self.cc.store(cc, Ordering::Release);
    }

    pub(super) fn configuration(&self) -> u32 {
        self.cc.load(Ordering::Acquire)
    }

    /// Tells where the admin queues are, of `entries` entries each.
    pub(super) fn set_admin_queues(
        &self,
        entries: u16,
        submission: u64,
        completion: u64,
    ) -> Result<(), TranslateError> {
        let last = u32::from(entries - 1);
        self.store(AQA, last << 16 | last)?;
        for (register, address) in [(ASQ, submission), (ACQ, completion)] {
            self.store(register, address as u32)?;
            self.store(register + 4, (address >> 32) as u32)?;
        }
        Ok(())
    }

    fn store(&self, offset: u64, value: u32) -> Result<(), TranslateError> {
        let cell = self
            .bar
            .cell::<AtomicU32>(Iova(offset), Direction::Writable)?;
        cell.store(value, Ordering::Release);
        Ok(())
    }

    /// Returns the doorbells of queue pair `id`: the submission queue's tail, the completion queue's head.
    pub(super) fn doorbells(&self, id: u16) -> Result<[Doorbell; 2], TranslateError> {
        let stride = self.capabilities.doorbell_stride_bytes();
        let doorbell = |number: u64| {
            let at = Iova(DOORBELLS + number * stride);
            self.bar.cell(at, Direction::Writable).map(Doorbell)
        };
        Ok([
            doorbell(2 * u64::from(id))?,
            doorbell(2 * u64::from(id) + 1)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_at_the_places_of_the_specification() {
        // MQES 2047, TO 10 s, DSTRD 1, CSS: NVM, MPSMIN 4 KiB.
        let cap = Capabilities(2047 | 20 << 24 | 1 << 32 | 1 << 37);
        assert_eq!((cap.entries_max(), cap.ready_ms_max()), (2048, 10_000));
        assert_eq!(cap.doorbell_stride_bytes(), 8);
        assert!(cap.is_usable());
        assert!(!Capabilities(cap.0 | 1 << 48).is_usable(), "pages of 8 KiB");
        assert!(!Capabilities(2047).is_usable(), "no NVM command set");
    }

    #[test]
    fn a_status_of_all_ones_is_a_device_that_is_gone() {
        assert!(ControllerStatus(GONE).is_gone());
        let ready = ControllerStatus(0b1);
        assert!(ready.is_ready() && !ready.is_fatal() && !ready.is_gone());
        assert!(ControllerStatus(0b10).is_fatal());
        assert!(ControllerStatus(0b1001).is_shut_down());
    }
}
