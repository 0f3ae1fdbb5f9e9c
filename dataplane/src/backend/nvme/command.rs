//! Submission queue entries (NVM Express base specification 2.0, 3.3.3.1; NVM command set specification 1.0, 3).

/// Bytes of a submission queue entry.
pub(in crate::backend) const COMMAND_BYTES: usize = 64;

/// Bytes of one range of a dataset management command.
pub(in crate::backend) const DEALLOCATE_RANGE_BYTES: usize = 16;

/// Where a command's data is: its two PRP entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::backend) struct Prps {
    pub(in crate::backend) first: u64,
    pub(in crate::backend) second: u64,
}

/// A submission queue entry without its identifier, which the queue gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::backend) struct Command {
    opcode: u8,
    nsid: u32,
    prps: Prps,
    /// Command dwords 10 to 15.
    dwords: [u32; 6],
}

/// Makes the writes of a command durable before it completes (FUA).
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// Lets Write Zeroes deallocate (DEAC).
const DEALLOCATE: u32 = 1 << 25;

/// Blocks of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Blocks {
    pub(in crate::backend) first: u64,
    /// From 1 to 65536.
    pub(in crate::backend) count: u32,
}

impl Command {
    pub(in crate::backend) fn flush(nsid: u32) -> Self {
        Self {
            opcode: 0x00,
            nsid,
            ..Self::default()
        }
    }

    pub(in crate::backend) fn read(nsid: u32, blocks: Blocks, prps: Prps) -> Self {
        Self::on_blocks(0x02, nsid, blocks, 0).with_data(prps)
    }

    pub(in crate::backend) fn write(nsid: u32, blocks: Blocks, prps: Prps, durable: bool) -> Self {
        let flags = if durable { FORCE_UNIT_ACCESS } else { 0 };
        Self::on_blocks(0x01, nsid, blocks, flags).with_data(prps)
    }

    pub(in crate::backend) fn write_zeroes(
        nsid: u32,
        blocks: Blocks,
        deallocate: bool,
        durable: bool,
    ) -> Self {
        let mut flags = if durable { FORCE_UNIT_ACCESS } else { 0 };
        if deallocate {
            flags |= DEALLOCATE;
        }
        Self::on_blocks(0x08, nsid, blocks, flags)
    }

    /// Deallocates `count` ranges, which are at `ranges`.
    pub(in crate::backend) fn deallocate(nsid: u32, count: u16, ranges: u64) -> Self {
        let command = Self {
            opcode: 0x09,
            nsid,
            // Counted from 0; attribute: deallocate.
            dwords: [u32::from(count) - 1, 1 << 2, 0, 0, 0, 0],
            ..Self::default()
        };
        command.with_data(Prps {
            first: ranges,
            second: 0,
        })
    }

    /// Asks for the 4096 bytes of structure `cns`, to be written to the page at `page`.
    pub(in crate::backend) fn identify(cns: u8, nsid: u32, page: u64) -> Self {
        let command = Self {
            opcode: 0x06,
            nsid,
            dwords: [u32::from(cns), 0, 0, 0, 0, 0],
            ..Self::default()
        };
        command.with_data(Prps {
            first: page,
            second: 0,
        })
    }

    /// Asks for `count` queues of both kinds (feature 07h).
    pub(in crate::backend) fn set_number_of_queues(count: u16) -> Self {
        let last = u32::from(count) - 1;
        Self {
            opcode: 0x09,
            dwords: [0x07, last << 16 | last, 0, 0, 0, 0],
            ..Self::default()
        }
    }

    /// Asks to be told of what the SMART log warns of, and of the notices whose bits are set in `notices` (feature 0Bh).
    pub(in crate::backend) fn set_events(notices: u32) -> Self {
        Self {
            opcode: 0x09,
            dwords: [0x0b, 0x1f | notices, 0, 0, 0, 0],
            ..Self::default()
        }
    }

    /// Completes when there is something to tell.
    pub(in crate::backend) fn event_request() -> Self {
        Self {
            opcode: 0x0c,
            ..Self::default()
        }
    }

    /// Asks for the first `bytes` bytes of log page `log`, whole dwords, to be written to the page at `page`.
    pub(in crate::backend) fn log_page(log: u8, bytes: u32, page: u64) -> Self {
        let command = Self {
            opcode: 0x02,
            nsid: u32::MAX,
            // Counted from 0, in dwords.
            dwords: [(bytes / 4 - 1) << 16 | u32::from(log), 0, 0, 0, 0, 0],
            ..Self::default()
        };
        command.with_data(Prps {
            first: page,
            second: 0,
        })
    }

    /// Makes completion queue `id` of `entries` entries at `address`, without interrupts.
    pub(in crate::backend) fn create_completion_queue(id: u16, entries: u16, address: u64) -> Self {
        Self::create_queue(0x05, id, entries, address, 1)
    }

    /// Makes submission queue `id` of `entries` entries at `address`, whose completions go to queue `id`.
    pub(in crate::backend) fn create_submission_queue(id: u16, entries: u16, address: u64) -> Self {
        Self::create_queue(0x01, id, entries, address, u32::from(id) << 16 | 1)
    }

    pub(in crate::backend) fn delete_submission_queue(id: u16) -> Self {
        Self {
            opcode: 0x00,
            dwords: [u32::from(id), 0, 0, 0, 0, 0],
            ..Self::default()
        }
    }

    pub(in crate::backend) fn delete_completion_queue(id: u16) -> Self {
        Self {
            opcode: 0x04,
            ..Self::delete_submission_queue(id)
        }
    }

    /// Asks for an early end of command `id` of submission queue `queue`.
    pub(in crate::backend) fn abort(queue: u16, id: u16) -> Self {
        Self {
            opcode: 0x08,
            dwords: [u32::from(id) << 16 | u32::from(queue), 0, 0, 0, 0, 0],
            ..Self::default()
        }
    }

    /// `flags` has bit 0, the queue is in one piece.
    fn create_queue(opcode: u8, id: u16, entries: u16, address: u64, flags: u32) -> Self {
        let command = Self {
            opcode,
            dwords: [
                u32::from(entries - 1) << 16 | u32::from(id),
                flags,
                0,
                0,
                0,
                0,
            ],
            ..Self::default()
        };
        command.with_data(Prps {
            first: address,
            second: 0,
        })
    }

    fn on_blocks(opcode: u8, nsid: u32, blocks: Blocks, flags: u32) -> Self {
        Self {
            opcode,
            nsid,
            dwords: [
                blocks.first as u32,
                (blocks.first >> 32) as u32,
                (blocks.count - 1) | flags,
                0,
                0,
                0,
            ],
            ..Self::default()
        }
    }

    /// Returns it with its data at `prps`.
    pub(in crate::backend) fn with_data(self, prps: Prps) -> Self {
        Self { prps, ..self }
    }

    /// Returns the entry as it lies in a queue, with `id` as its identifier.
    #[inline]
    pub(in crate::backend) fn entry(&self, id: u16) -> [u8; COMMAND_BYTES] {
        let mut entry = [0; COMMAND_BYTES];
        entry[0] = self.opcode;
        entry[2..4].copy_from_slice(&id.to_le_bytes());
        entry[4..8].copy_from_slice(&self.nsid.to_le_bytes());
        entry[24..32].copy_from_slice(&self.prps.first.to_le_bytes());
        entry[32..40].copy_from_slice(&self.prps.second.to_le_bytes());
        for (bytes, dword) in entry[40..].chunks_exact_mut(4).zip(self.dwords) {
            bytes.copy_from_slice(&dword.to_le_bytes());
        }
        entry
    }
}

/// Returns a range of a dataset management command.
pub(in crate::backend) fn deallocate_range(first: u64, count: u32) -> [u8; DEALLOCATE_RANGE_BYTES] {
    let mut range = [0; DEALLOCATE_RANGE_BYTES];
    range[4..8].copy_from_slice(&count.to_le_bytes());
    range[8..].copy_from_slice(&first.to_le_bytes());
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dword(entry: &[u8], number: usize) -> u32 {
        u32::from_le_bytes(entry[4 * number..][..4].try_into().expect("four bytes"))
    }

    #[test]
    fn entries_are_laid_out_as_specified() {
        let blocks = Blocks {
            first: 0x1_2345_6789,
            count: 65536,
        };
        let prps = Prps {
            first: 0x1_0000_0200,
            second: 0x2_0000_1000,
        };
        let entry = Command::write(7, blocks, prps, true).entry(0xbeef);
        assert_eq!(dword(&entry, 0), 0xbeef_0001);
        assert_eq!(dword(&entry, 1), 7);
        assert_eq!((dword(&entry, 6), dword(&entry, 7)), (0x200, 1));
        assert_eq!((dword(&entry, 8), dword(&entry, 9)), (0x1000, 2));
        assert_eq!((dword(&entry, 10), dword(&entry, 11)), (0x2345_6789, 1));
        assert_eq!(dword(&entry, 12), 0x4000_ffff);
        let zeroes = Command::write_zeroes(1, blocks, true, false).entry(0);
        assert_eq!((zeroes[0], dword(&zeroes, 12)), (8, 0x0200_ffff));
        let discard = Command::deallocate(1, 256, 0x1000).entry(0);
        assert_eq!((dword(&discard, 10), dword(&discard, 11)), (255, 4));
        assert_eq!(deallocate_range(5, 9)[4], 9);
        assert_eq!(deallocate_range(5, 9)[8], 5);
    }

    #[test]
    fn events_are_asked_for_and_their_logs_read_in_dwords() {
        let events = Command::set_events(1 << 8).entry(1);
        assert_eq!(
            (events[0], dword(&events, 10), dword(&events, 11)),
            (9, 0x0b, 0x11f)
        );
        let log = Command::log_page(4, 4096, 0x5000).entry(1);
        assert_eq!((log[0], dword(&log, 1)), (2, u32::MAX));
        assert_eq!((dword(&log, 10), dword(&log, 6)), (0x03ff_0004, 0x5000));
    }

    #[test]
    fn an_abort_names_a_command_and_its_queue() {
        let abort = Command::abort(3, 0xbeef).entry(1);
        assert_eq!((abort[0], dword(&abort, 10)), (8, 0xbeef_0003));
    }

    #[test]
    fn queues_are_made_in_one_piece_and_without_interrupts() {
        let completion = Command::create_completion_queue(3, 256, 0x5000).entry(0);
        assert_eq!((completion[0], dword(&completion, 10)), (5, 255 << 16 | 3));
        assert_eq!(dword(&completion, 11), 1);
        let submission = Command::create_submission_queue(3, 256, 0x5000).entry(0);
        assert_eq!((submission[0], dword(&submission, 11)), (1, 3 << 16 | 1));
        let queues = Command::set_number_of_queues(256).entry(0);
        assert_eq!(
            (queues[0], dword(&queues, 10), dword(&queues, 11)),
            (9, 7, 0x00ff_00ff)
        );
    }
}
