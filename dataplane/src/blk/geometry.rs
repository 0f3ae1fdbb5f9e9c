//! What a disk is like: its size, its blocks, what it can do.

/// Bytes of a sector: the unit of every virtio-blk address, whatever the block size.
pub const SECTOR_BYTES: u64 = 512;

/// Bytes of the answer to GET_ID.
pub const SERIAL_BYTES: usize = 20;

/// The properties of a disk, as its backend knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Size in 512-byte sectors, a multiple of the block size.
    pub capacity_sectors: u64,
    /// Logical block size in bytes, a power of two from 512 on: the alignment of every request.
    pub block_bytes: u32,
    /// Physical blocks are `2^physical_block_exponent` logical ones.
    pub physical_block_exponent: u8,
    /// Best size of an I/O, in logical blocks; 0 when there is none.
    pub optimal_io_blocks: u32,
    /// Writes fail.
    pub read_only: bool,
    /// Completed writes may be lost until FLUSH.
    pub volatile_cache: bool,
    /// Sectors in one discard range; 0 when DISCARD is not supported.
    pub discard_sectors_max: u32,
    /// Sectors in one WRITE_ZEROES range; 0 when it is not supported.
    pub write_zeroes_sectors_max: u32,
    /// WRITE_ZEROES may deallocate.
    pub write_zeroes_may_unmap: bool,
    /// Sectors in one range of SECURE_ERASE; 0 when it is not supported.
    pub secure_erase_sectors_max: u32,
    /// The answer to GET_ID, padded with zeros.
    pub serial: [u8; SERIAL_BYTES],
}

/// A run of sectors, checked against the geometry it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorRange {
    /// First sector.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl SectorRange {
    /// Returns the offset of the first byte.
    pub fn start_bytes(self) -> u64 {
        self.first * SECTOR_BYTES
    }

    /// Returns the length in bytes.
    pub fn bytes(self) -> u64 {
        self.count * SECTOR_BYTES
    }
}

impl Geometry {
    /// Returns the size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.capacity_sectors * SECTOR_BYTES
    }

    /// Returns the range of `count` sectors from `first` on if all of it is on the disk.
    #[inline]
    pub fn range(&self, first: u64, count: u64) -> Option<SectorRange> {
        let end = first.checked_add(count)?;
        (end <= self.capacity_sectors).then_some(SectorRange { first, count })
    }

    /// Returns the range of `bytes` bytes from sector `first` on if it is on the disk and made of whole
    /// logical blocks.
    #[inline]
    pub fn blocks(&self, first: u64, bytes: u64) -> Option<SectorRange> {
        // A power of two, so that no division is needed.
        let below_block = u64::from(self.block_bytes) - 1;
        let start = first.checked_mul(SECTOR_BYTES)?;
        if (start | bytes) & below_block == 0 {
            self.range(first, bytes / SECTOR_BYTES)
        } else {
            None
        }
    }
}
