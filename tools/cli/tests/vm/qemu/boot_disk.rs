//! A disk whose boot sector copies blocks, through the BIOS's virtio-blk driver, and ends the machine.

use std::fs::File;
use std::io::Read;
use std::path::Path;

const SECTOR_BYTES: usize = 512;

/// Bytes of the disk.
const SIZE: usize = 8 << 20;

/// Sectors of one copy; a segment of real mode has room for them.
const COPY_SECTORS: u16 = 64;

/// Where the copies are read from and where they go to.
const FROM_SECTOR: u16 = 1;
const TO_SECTOR: u16 = 1 + 2048;

/// What the boot sector writes to the port that ends QEMU.
const GOOD: u8 = 1;
const BAD: u8 = 2;

/// The port of QEMU's isa-debug-exit.
pub(super) const EXIT_PORT: u16 = 0x501;

/// QEMU's exit code when everything was copied: that device doubles what it is given and adds one.
pub(super) const GOOD_EXIT: i32 = 2 * GOOD as i32 + 1;

/// How many copies there are, and how far each is behind the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copies {
    pub(super) count: u16,
    pub(super) step_sectors: u16,
}

impl Copies {
    /// Different blocks, each once.
    pub(super) const ONCE: Self = Self {
        count: 16,
        step_sectors: COPY_SECTORS,
    };

    /// The same blocks, for as long as a test may take.
    pub(super) const FOR_EVER: Self = Self {
        count: u16::MAX,
        step_sectors: 0,
    };

    /// Writes a disk of random bytes that makes these copies to `path`.
    pub(super) fn write(self, path: &Path) {
        let mut disk = vec![0; SIZE];
        let random = File::open("/dev/urandom").and_then(|mut it| it.read_exact(&mut disk));
        random.expect("random bytes");
        disk[..SECTOR_BYTES].copy_from_slice(&self.boot_sector());
        std::fs::write(path, disk).expect("the disk");
    }

    /// Sees that everything was copied in the disk at `path`.
    pub(super) fn check(self, path: &Path) {
        let disk = std::fs::read(path).expect("the disk");
        let sectors = usize::from(self.step_sectors * (self.count - 1) + COPY_SECTORS);
        let at = |sector: u16| {
            let start = usize::from(sector) * SECTOR_BYTES;
            &disk[start..start + sectors * SECTOR_BYTES]
        };
        assert!(at(FROM_SECTOR) == at(TO_SECTOR), "other data was copied");
    }

    /// Returns the boot sector, in the machine code of real mode. It is loaded at 0x7c00 with the number of its disk
    /// in DL.
    fn boot_sector(self) -> [u8; SECTOR_BYTES] {
        const PACKET: [u8; 2] = 0x7c80_u16.to_le_bytes();
        // The low word of the packet's sector.
        const SECTOR: [u8; 2] = 0x7c88_u16.to_le_bytes();
        let [count_low, count_high] = self.count.to_le_bytes();
        let [there_low, there_high] = (TO_SECTOR - FROM_SECTOR).to_le_bytes();
        let back = TO_SECTOR - FROM_SECTOR - self.step_sectors;
        let [back_low, back_high] = back.to_le_bytes();
        let [port_low, port_high] = EXIT_PORT.to_le_bytes();
        #[rustfmt::skip]
        let code = [
            0xfa,                                               // cli
            0x31, 0xc0,                                         // xor ax, ax
            0x8e, 0xd8,                                         // mov ds, ax
            0x8e, 0xd0,                                         // mov ss, ax
            0xbc, 0x00, 0x7c,                                   // mov sp, 0x7c00
            0xfb,                                               // sti
            0xb9, count_low, count_high,                        // mov cx, count
            // again:
            0x51,                                               // push cx
            0xb4, 0x42,                                         // mov ah, 0x42: extended read
            0xbe, PACKET[0], PACKET[1],                         // mov si, packet
            0xcd, 0x13,                                         // int 0x13
            0x72, 29,                                           // jc bad
            0x81, 0x06, SECTOR[0], SECTOR[1], there_low, there_high, // add word [sector], there
            0xb8, 0x00, 0x43,                                   // mov ax, 0x4300: extended write
            0xbe, PACKET[0], PACKET[1],                         // mov si, packet
            0xcd, 0x13,                                         // int 0x13
            0x72, 13,                                           // jc bad
            0x81, 0x2e, SECTOR[0], SECTOR[1], back_low, back_high, // sub word [sector], back
            0x59,                                               // pop cx
            0xe2, 0xdd,                                         // loop again
            0xb0, GOOD,                                         // mov al, good
            0xeb, 2,                                            // jmp end
            // bad:
            0xb0, BAD,                                          // mov al, bad
            // end:
            0xba, port_low, port_high,                          // mov dx, port
            0xee,                                               // out dx, al
            0xf4,                                               // hlt
        ];
        let mut sector = [0; SECTOR_BYTES];
        sector[..code.len()].copy_from_slice(&code);
        // The disk address packet: its size, sectors, buffer (offset, segment) and first sector.
        let words = [16, COPY_SECTORS, 0, 0x1000, FROM_SECTOR];
        for (place, word) in sector[0x80..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        sector[SECTOR_BYTES - 2..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }
}
