//! Commands as the kernel takes them for a namespace: `struct nvme_uring_cmd` and `struct nvme_passthru_cmd`
//! (include/uapi/linux/nvme_ioctl.h), which are laid out alike.

/// Bytes of a command.
pub(super) const COMMAND_BYTES: usize = 72;

/// Bytes of one range of a dataset management command.
pub(super) const RANGE_BYTES: usize = 16;

/// Makes a write durable before it completes (FUA).
const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// Lets Write Zeroes deallocate (DEAC).
const DEALLOCATE: u32 = 1 << 25;

/// A command without its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    opcode: u8,
    nsid: u32,
    /// Where the data is.
    address: u64,
    /// Its bytes, or how many vectors are at `address`.
    data: u32,
    /// Command dwords 10 to 15.
    dwords: [u32; 6],
}

/// Blocks of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) first: u64,
    /// From 1 to 65536.
    pub(super) count: u32,
}

impl Command {
    pub(super) fn flush(nsid: u32) -> Self {
        Self {
            nsid,
            ..Self::default()
        }
    }

    pub(super) fn read(nsid: u32, blocks: Blocks) -> Self {
        Self::on_blocks(0x02, nsid, blocks, 0)
    }

    pub(super) fn write(nsid: u32, blocks: Blocks, durable: bool) -> Self {
        let flags = if durable { FORCE_UNIT_ACCESS } else { 0 };
        Self::on_blocks(0x01, nsid, blocks, flags)
    }

    pub(super) fn write_zeroes(nsid: u32, blocks: Blocks, deallocate: bool) -> Self {
        let flags = if deallocate { DEALLOCATE } else { 0 };
        Self::on_blocks(0x08, nsid, blocks, flags)
    }

    /// Deallocates one range, which is the data.
    pub(super) fn deallocate(nsid: u32) -> Self {
        Self {
            opcode: 0x09,
            nsid,
            dwords: [0, 1 << 2, 0, 0, 0, 0],
            ..Self::default()
        }
    }

    /// Asks for the 4096 bytes of identify structure `cns`.
    pub(super) fn identify(cns: u8, nsid: u32) -> Self {
        Self {
            opcode: 0x06,
            nsid,
            dwords: [u32::from(cns), 0, 0, 0, 0, 0],
            ..Self::default()
        }
    }

    fn on_blocks(opcode: u8, nsid: u32, blocks: Blocks, flags: u32) -> Self {
        let Blocks { first, count } = blocks;
        Self {
            opcode,
            nsid,
            dwords: [
                first as u32,
                (first >> 32) as u32,
                (count - 1) | flags,
                0,
                0,
                0,
            ],
            ..Self::default()
        }
    }

    /// Returns it with `data` bytes at `address`, or as many vectors.
    pub(super) fn with_data(self, address: u64, data: u32) -> Self {
        Self {
            address,
            data,
            ..self
        }
    }

    /// Returns it as the kernel takes it.
    #[inline]
    pub(super) fn bytes(&self) -> [u8; COMMAND_BYTES] {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[0] = self.opcode;
        bytes[4..8].copy_from_slice(&self.nsid.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.address.to_ne_bytes());
        bytes[36..40].copy_from_slice(&self.data.to_ne_bytes());
        for (bytes, dword) in bytes[40..64].chunks_exact_mut(4).zip(self.dwords) {
            bytes.copy_from_slice(&dword.to_ne_bytes());
        }
        bytes
    }
}

/// Returns `blocks` as a range of a dataset management command.
pub(super) fn range(blocks: Blocks) -> [u8; RANGE_BYTES] {
    let mut range = [0; RANGE_BYTES];
    range[4..8].copy_from_slice(&blocks.count.to_le_bytes());
    range[8..].copy_from_slice(&blocks.first.to_le_bytes());
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dword(bytes: &[u8], place: usize) -> u32 {
        u32::from_ne_bytes(bytes[place..place + 4].try_into().unwrap())
    }

    #[test]
    fn commands_are_laid_out_as_in_the_kernels_header() {
        let blocks = Blocks {
            first: 0x1_2345_6789,
            count: 65536,
        };
        let write = Command::write(7, blocks, true).with_data(0x1_0000_2000, 4096);
        let bytes = write.bytes();
        assert_eq!((bytes[0], dword(&bytes, 4)), (1, 7));
        assert_eq!((dword(&bytes, 24), dword(&bytes, 28)), (0x2000, 1));
        // No metadata.
        assert_eq!(
            (dword(&bytes, 16), dword(&bytes, 32), dword(&bytes, 36)),
            (0, 0, 4096)
        );
        assert_eq!((dword(&bytes, 40), dword(&bytes, 44)), (0x2345_6789, 1));
        assert_eq!(dword(&bytes, 48), 0x4000_ffff);
        let zeroes = Command::write_zeroes(1, blocks, true).bytes();
        assert_eq!((zeroes[0], dword(&zeroes, 48)), (8, 0x0200_ffff));
        let discard = Command::deallocate(1).bytes();
        assert_eq!(
            (discard[0], dword(&discard, 40), dword(&discard, 44)),
            (9, 0, 4)
        );
        assert_eq!(Command::flush(3).bytes()[..8], [0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(Command::identify(6, 2).bytes()[40], 6);
        let range = range(Blocks { first: 5, count: 9 });
        assert_eq!((range[4], range[8]), (9, 5));
    }
}
