//! Commands as the kernel takes them for a namespace: `struct nvme_uring_cmd` and `struct nvme_passthru_cmd`
//! (include/uapi/linux/nvme_ioctl.h), which are laid out alike: as an entry of a submission queue, with an address of this
//! process where its first PRP entry would be, and the length in the upper half of where the second would.

use crate::backend::nvme::command::{Command, Prps};

/// Bytes of a command: those of an entry, and a time limit, 0 for the kernel's own.
pub(super) const COMMAND_BYTES: usize = 72;

/// Returns where the data of a command is: `count` bytes at `address`, or as many vectors.
pub(super) fn data(address: u64, count: u32) -> Prps {
    Prps {
        first: address,
        second: u64::from(count) << 32,
    }
}

/// Returns `command` as the kernel takes it.
#[inline]
pub(super) fn bytes(command: &Command) -> [u8; COMMAND_BYTES] {
    let mut bytes = [0; COMMAND_BYTES];
    bytes[..64].copy_from_slice(&command.entry(0));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::nvme::command::Blocks;

    fn dword(bytes: &[u8], place: usize) -> u32 {
        u32::from_ne_bytes(bytes[place..place + 4].try_into().unwrap())
    }

    #[test]
    fn commands_are_laid_out_as_in_the_kernels_header() {
        let blocks = Blocks {
            first: 0x1_2345_6789,
            count: 65536,
        };
        let bytes = bytes(&Command::write(7, blocks, data(0x1_0000_2000, 4096), true));
        assert_eq!((dword(&bytes, 0), dword(&bytes, 4)), (1, 7));
        assert_eq!((dword(&bytes, 24), dword(&bytes, 28)), (0x2000, 1));
        // No metadata.
        let lengths = (dword(&bytes, 16), dword(&bytes, 32), dword(&bytes, 36));
        assert_eq!(lengths, (0, 0, 4096));
        assert_eq!((dword(&bytes, 40), dword(&bytes, 44)), (0x2345_6789, 1));
        assert_eq!((dword(&bytes, 48), dword(&bytes, 64)), (0x4000_ffff, 0));
    }
}
