//! What a controller and a namespace say of themselves (NVM Express base specification 2.0, figure 275; NVM command
//! set specification 1.0, figures 97 and 100).

use crate::blk::{Geometry, SECTOR_BYTES, SERIAL_BYTES};

/// Bytes of every identify structure.
pub(in crate::backend) const IDENTIFY_BYTES: usize = 4096;

/// Structures to ask for.
pub(in crate::backend) const CNS_NAMESPACE: u8 = 0x00;
pub(in crate::backend) const CNS_CONTROLLER: u8 = 0x01;
/// Of the NVM command set; not every controller has it.
pub(in crate::backend) const CNS_NVM_CONTROLLER: u8 = 0x06;

/// Most blocks of one command.
const COMMAND_BLOCKS_MAX: u64 = 1 << 16;
/// Sectors of one discard range where the controller knows no limit: whole blocks below 2 GiB, so that ranges count
/// in 32 bits.
const DISCARD_SECTORS_MAX: u64 = 1 << 22;

/// Identify controller, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Controller {
    pub(in crate::backend) serial: [u8; SERIAL_BYTES],
    /// Most data bytes of a command, if there is a limit.
    pub(in crate::backend) data_bytes_max: Option<u64>,
    pub(in crate::backend) namespaces: u32,
    /// Most Abort commands that it takes at one time.
    pub(in crate::backend) aborts_max: u16,
    pub(in crate::backend) has_deallocate: bool,
    pub(in crate::backend) has_write_zeroes: bool,
    pub(in crate::backend) volatile_cache: bool,
    /// Most bytes of a Write Zeroes command, if it tells.
    pub(in crate::backend) write_zeroes_bytes_max: Option<u64>,
    /// Most ranges of a deallocation.
    pub(in crate::backend) deallocate_ranges_max: Option<u16>,
    /// Most blocks of each of them.
    pub(in crate::backend) deallocate_blocks_max: Option<u32>,
}

fn u16_at(page: &[u8; IDENTIFY_BYTES], offset: usize) -> u16 {
    u16::from_le_bytes([page[offset], page[offset + 1]])
}

fn u32_at(page: &[u8; IDENTIFY_BYTES], offset: usize) -> u32 {
    u32::from(u16_at(page, offset)) | u32::from(u16_at(page, offset + 2)) << 16
}

fn u64_at(page: &[u8; IDENTIFY_BYTES], offset: usize) -> u64 {
    u64::from(u32_at(page, offset)) | u64::from(u32_at(page, offset + 4)) << 32
}

/// Returns the bytes that `exponent` means in units of pages of 4 KiB; 0 is no limit.
fn pages(exponent: u8) -> Option<u64> {
    (1..=32).contains(&exponent).then(|| 4096 << exponent)
}

impl Controller {
    /// Returns what `page` says, and `nvm`, if there is such.
    pub(in crate::backend) fn parse(
        page: &[u8; IDENTIFY_BYTES],
        nvm: Option<&[u8; IDENTIFY_BYTES]>,
    ) -> Self {
        let mut serial = [0; SERIAL_BYTES];
        // SN: 20 characters, filled up with spaces.
        let text = page[4..24].trim_ascii();
        serial[..text.len()].copy_from_slice(text);
        let oncs = u16_at(page, 520);
        Self {
            serial,
            data_bytes_max: pages(page[77]),
            namespaces: u32_at(page, 516),
            // ACL counts from 0.
            aborts_max: u16::from(page[258]) + 1,
            has_deallocate: oncs >> 2 & 1 == 1,
            has_write_zeroes: oncs >> 3 & 1 == 1,
            volatile_cache: page[525] & 1 == 1,
            write_zeroes_bytes_max: nvm.and_then(|nvm| pages(nvm[1])),
            deallocate_ranges_max: nvm.map(|nvm| u16::from(nvm[3])).filter(|max| *max > 0),
            deallocate_blocks_max: nvm.map(|nvm| u32_at(nvm, 4)).filter(|max| *max > 0),
        }
    }
}

/// Identify namespace, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Namespace {
    pub(in crate::backend) blocks: u64,
    pub(in crate::backend) block_bytes: u64,
    pub(in crate::backend) metadata_bytes: u16,
    pub(in crate::backend) write_protected: bool,
    /// Write Zeroes may deallocate.
    pub(in crate::backend) zeroes_deallocate: bool,
    /// Writes of so many blocks cost the least; 0 when it does not tell.
    pub(in crate::backend) optimal_write_blocks: u32,
}

impl Namespace {
    /// Returns what `page` says; all blocks are 0 where there is no such namespace.
    pub(in crate::backend) fn parse(page: &[u8; IDENTIFY_BYTES]) -> Self {
        // FLBAS: bits 0 to 3, and from 5 on the upper ones.
        let format = usize::from(page[26] & 0xf | page[26] >> 1 & 0x30);
        let lba_format = u32_at(page, 128 + 4 * format);
        let tells_preferences = page[24] >> 4 & 1 == 1;
        Self {
            blocks: u64_at(page, 0),
            // A shift that is out of range is a size that nobody serves.
            block_bytes: 1_u64.checked_shl(lba_format >> 16 & 0xff).unwrap_or(0),
            metadata_bytes: lba_format as u16,
            write_protected: page[99] & 1 == 1,
            zeroes_deallocate: page[33] >> 3 & 1 == 1,
            optimal_write_blocks: match tells_preferences {
                // Counted from 0.
                true => u32::from(u16_at(page, 72)) + 1,
                false => 0,
            },
        }
    }
}

/// What bounds each command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Limits {
    /// Most data bytes of a read or a write: whole blocks.
    pub(in crate::backend) data_bytes_max: u64,
    /// Most ranges of a deallocation.
    pub(in crate::backend) ranges_max: usize,
}

/// Returns the disk that namespace `namespace` of `controller` is, and what bounds its commands. Its blocks are of a size that
/// can be served.
pub(in crate::backend) fn disk(
    controller: &Controller,
    namespace: &Namespace,
) -> (Geometry, Limits) {
    let Namespace { block_bytes, .. } = *namespace;
    let sectors_per_block = block_bytes / SECTOR_BYTES;
    let data_bytes_max = controller.data_bytes_max.unwrap_or(u64::MAX);
    let zeroes_bytes_max = controller
        .write_zeroes_bytes_max
        .unwrap_or(data_bytes_max)
        .min(COMMAND_BLOCKS_MAX * block_bytes);
    let discard_sectors = controller
        .deallocate_blocks_max
        .map_or(DISCARD_SECTORS_MAX, |blocks| {
            u64::from(blocks) * sectors_per_block
        });
    let offered = |has: bool, sectors: u64| if has { sectors as u32 } else { 0 };
    let geometry = Geometry {
        capacity_sectors: namespace.blocks.saturating_mul(sectors_per_block),
        block_bytes: block_bytes as u32,
        // Nothing larger is sure to be written all at once.
        physical_block_exponent: 0,
        optimal_io_blocks: namespace.optimal_write_blocks,
        read_only: namespace.write_protected,
        volatile_cache: controller.volatile_cache,
        discard_sectors_max: offered(
            controller.has_deallocate,
            discard_sectors.min(DISCARD_SECTORS_MAX),
        ),
        write_zeroes_sectors_max: offered(
            controller.has_write_zeroes,
            zeroes_bytes_max / SECTOR_BYTES,
        ),
        write_zeroes_may_unmap: namespace.zeroes_deallocate,
        // NVMe erases namespaces (Sanitize, Format NVM), no ranges of them.
        secure_erase_sectors_max: 0,
        serial: controller.serial,
    };
    let limits = Limits {
        data_bytes_max: data_bytes_max.min(COMMAND_BLOCKS_MAX * block_bytes),
        ranges_max: controller.deallocate_ranges_max.map_or(256, usize::from),
    };
    (geometry, limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: &[(usize, &[u8])]) -> [u8; IDENTIFY_BYTES] {
        let mut page = [0; IDENTIFY_BYTES];
        for (offset, value) in bytes {
            page[*offset..offset + value.len()].copy_from_slice(value);
        }
        page
    }

    fn controller() -> [u8; IDENTIFY_BYTES] {
        page(&[
            (4, b"SN 12345            "),
            (77, &[7]),
            (258, &[3]),
            (516, &[2, 1, 0, 0]),
            (520, &[0b1100, 0]),
            (525, &[1]),
        ])
    }

    #[test]
    fn a_controller_is_read_at_the_offsets_of_the_specification() {
        let parsed = Controller::parse(&controller(), None);
        assert_eq!(&parsed.serial, b"SN 12345\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(parsed.data_bytes_max, Some(512 << 10));
        assert_eq!((parsed.namespaces, parsed.aborts_max), (258, 4));
        assert!(parsed.has_deallocate && parsed.has_write_zeroes && parsed.volatile_cache);
        assert_eq!(parsed.write_zeroes_bytes_max, None);
        let nvm = page(&[(1, &[9]), (3, &[64]), (4, &[0, 0, 1, 0])]);
        let parsed = Controller::parse(&controller(), Some(&nvm));
        assert_eq!(parsed.write_zeroes_bytes_max, Some(2 << 20));
        assert_eq!(parsed.deallocate_ranges_max, Some(64));
        assert_eq!(parsed.deallocate_blocks_max, Some(65536));
        let bare = Controller::parse(&page(&[]), Some(&page(&[])));
        assert_eq!(
            (bare.data_bytes_max, bare.deallocate_ranges_max),
            (None, None)
        );
        assert!(!bare.has_deallocate && !bare.has_write_zeroes && !bare.volatile_cache);
    }

    #[test]
    fn a_namespace_is_read_at_the_offsets_of_the_specification() {
        let blocks = 0x1_0000_0002_u64.to_le_bytes();
        let bytes: [(usize, &[u8]); 6] = [
            (0, &blocks),
            (24, &[1 << 4]),
            // Format 17: 1 in the low bits, 1 in bit 5.
            (26, &[0b0010_0001]),
            (33, &[1 << 3]),
            (72, &[31, 0]),
            (128 + 4 * 17, &[8, 0, 12, 0]),
        ];
        let parsed = Namespace::parse(&page(&bytes));
        assert_eq!(parsed.blocks, 0x1_0000_0002);
        assert_eq!((parsed.block_bytes, parsed.metadata_bytes), (4096, 8));
        assert!(parsed.zeroes_deallocate && !parsed.write_protected);
        assert_eq!(parsed.optimal_write_blocks, 32);
        assert!(Namespace::parse(&page(&[(99, &[1])])).write_protected);
        let absurd = Namespace::parse(&page(&[(128, &[0, 0, 200, 0])]));
        assert_eq!(absurd.block_bytes, 0);
    }

    #[test]
    fn a_disk_is_what_both_say() {
        let nvm = page(&[(3, &[1])]);
        let controller = Controller::parse(&controller(), Some(&nvm));
        let bytes: [(usize, &[u8]); 4] = [
            (0, &[0, 1]),
            (24, &[1 << 4]),
            (72, &[7, 0]),
            (128, &[0, 0, 9, 0]),
        ];
        let (disk, limits) = disk(&controller, &Namespace::parse(&page(&bytes)));
        assert_eq!((disk.capacity_sectors, disk.block_bytes), (256, 512));
        assert_eq!(disk.optimal_io_blocks, 8);
        assert_eq!(disk.write_zeroes_sectors_max, 1024);
        assert_eq!(disk.discard_sectors_max, 1 << 22);
        assert!(!disk.write_zeroes_may_unmap);
        let expected = Limits {
            data_bytes_max: 512 << 10,
            ranges_max: 1,
        };
        assert_eq!(limits, expected);
    }
}
