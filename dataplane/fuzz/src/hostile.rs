//! What a driver must not do.

use pollux_dataplane::driver::QueueDriver;
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::QueueConfig;

use crate::input::{Action, Piece};
use crate::memory::Memory;
use crate::requests::Requests;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// What the rings of the largest queue take.
pub(crate) const RINGS_BYTES: u64 = 2048;

/// Where it does that.
pub(crate) struct Rings<'play> {
    pub(crate) memory: &'play Memory,
    pub(crate) requests: &'play Requests,
    pub(crate) driver_area: Iova,
    /// Rings, tables and requests: the first address and how many bytes.
    pub(crate) whole: (Iova, u64),
}

impl Rings<'_> {
    /// Does what `action` says to `queue` or the memory.
    pub(crate) fn act(&self, queue: &mut QueueDriver, action: Action) {
        let memory = self.memory;
        match action {
            Action::Descriptor {
                index,
                piece,
                flags,
                link,
            } => {
                let link = u16::from(link);
                let (address, bytes) = offered(memory, piece, flags);
                match queue {
                    QueueDriver::Split(queue) => {
                        let rest = words(bytes, flags, link);
                        queue.write_descriptor(u16::from(index), address.0, rest);
                    }
                    QueueDriver::Packed(queue) => {
                        let rest = words(bytes, link, flags);
                        queue.write_descriptor(u16::from(index), address.0, rest);
                    }
                }
            }
            Action::Entry {
                table,
                index,
                piece,
                flags,
                link,
            } => {
                let at = Iova(table_at(memory, table) + 16 * u64::from(index));
                let (address, bytes) = memory.place(piece);
                let (flags, link) = (
                    u16::from(flags) & (NEXT | WRITE | INDIRECT),
                    u16::from(link),
                );
                let rest = match queue {
                    QueueDriver::Split(_) => words(bytes, flags, link),
                    QueueDriver::Packed(_) => words(bytes, link, flags),
                };
                memory.write(at, &address.0.to_le_bytes());
                memory.write(Iova(at.0 + 8), &rest.to_le_bytes());
            }
            Action::Offer { head, piece, flags } => {
                let head = u16::from(head);
                match queue {
                    QueueDriver::Split(queue) => queue.make_available(head),
                    QueueDriver::Packed(queue) => {
                        let (address, bytes) = offered(memory, piece, flags.into());
                        queue.add_descriptor(address, bytes, head, u16::from(flags));
                    }
                }
            }
            Action::Index(by) => {
                if let QueueDriver::Split(queue) = queue {
                    let at = Iova(self.driver_area.0 + 2);
                    let mut index = [0; 2];
                    memory.read(at, &mut index);
                    queue.write_avail_idx(u16::from_le_bytes(index).wrapping_add_signed(by));
                }
            }
            Action::Store {
                offset,
                kind,
                value,
            } => {
                let (first, bytes) = self.whole;
                // Mostly in the rings themselves, which come first.
                let reach = if kind & 0x30 == 0 {
                    bytes - 8
                } else {
                    RINGS_BYTES.min(bytes - 8)
                };
                let at = first.0 + u64::from(offset) * 8 % reach / 8 * 8;
                let value = value.to_le_bytes();
                let width = 1 << (kind & 3).min(2);
                memory.write(Iova(at + u64::from(kind >> 5)), &value[..width]);
            }
            Action::Header {
                ticket,
                kind,
                sector,
            } => {
                let at = self.requests.header(ticket);
                memory.write(at, &u32::from(kind).to_le_bytes());
                memory.write(Iova(at.0 + 8), &u64::from(sector).to_le_bytes());
            }
            _ => {}
        }
    }
}

/// Puts a ring part where it cannot be, or where no page is.
pub(crate) fn misplace(mut config: QueueConfig, how: u8) -> QueueConfig {
    match how {
        1 => config.descriptor_area.0 += 1 << 40,
        2 => config.descriptor_area.0 += 8,
        3 => config.driver_area.0 += 1,
        4 => config.device_area.0 = 0x8000_0000,
        5 => config.device_area.0 = u64::MAX - 3,
        6 => config.size += 1,
        7 => config.next_avail ^= 1,
        8 => config.next_used ^= 1,
        9 => config.size <<= 1,
        10 => config.next_avail = u16::MAX,
        // The second page of these two does not exist.
        11 => config.descriptor_area.0 = (1 << 40) + 4096 - 64,
        12 => config.driver_area.0 = (1 << 40) + 4096,
        13 => config.device_area.0 = (1 << 40) + 4096,
        _ => {}
    }
    config
}

/// Returns the second word of a descriptor.
fn words(bytes: u32, third: u16, fourth: u16) -> u64 {
    u64::from(bytes) | u64::from(third) << 32 | u64::from(fourth) << 48
}

/// Returns where table `table` lies: whatever is there, it can be used as one.
fn table_at(memory: &Memory, table: u8) -> u64 {
    memory.border().0 - 2048 + 1024 * (u64::from(table) % 8)
}

/// Returns the buffer of a descriptor, or the table if it is to be indirect.
fn offered(memory: &Memory, piece: Piece, flags: u16) -> (Iova, u32) {
    let (address, bytes) = memory.place(piece);
    let is_table = flags & INDIRECT != 0 && piece.region & 1 == 0;
    match is_table {
        true => (
            Iova(table_at(memory, piece.region >> 1)),
            u32::from(piece.length & 15) * 16,
        ),
        false => (address, bytes),
    }
}
