//! From a chain to a request: the header, the data, the place of the status (VIRTIO 1.3, 5.2.6).

use arrayvec::ArrayVec;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::{Data, Geometry, Operation, SectorRange, Status};
use crate::limits::{RANGES_MAX, REQUEST_BYTES_MAX, WRITE_ZEROES_RANGES_MAX};
use crate::mem::Segment;
use crate::ring::{Chain, DriverFault};

const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;

/// Room for the ranges of one DISCARD or WRITE_ZEROES request.
pub type Ranges = ArrayVec<SectorRange, RANGES_MAX>;

/// A request that can be carried out or answered.
#[derive(Debug)]
pub enum Request<'chain, 'table> {
    /// For the backend.
    Operation(Operation<'chain, 'table>),
    /// Write the serial number here.
    GetId(Data<'chain, 'table>),
    /// Nothing to do but to say so.
    Answer(Status),
}

impl Request<'_, '_> {
    /// Returns the data bytes that the device writes when the request succeeds.
    #[inline]
    pub fn read_bytes(&self) -> u64 {
        match self {
            Self::Operation(Operation::Read { range, .. }) => range.bytes(),
            _ => 0,
        }
    }

    /// Returns the data bytes that the device reads.
    #[inline]
    pub fn write_bytes(&self) -> u64 {
        match self {
            Self::Operation(Operation::Write { range, .. }) => range.bytes(),
            _ => 0,
        }
    }
}

/// Returns the request in `chain`, checked against `geometry`. `ranges` is scratch space.
///
/// # Errors
///
/// [`DriverFault`] when there is no whole header or no place for a status.
#[inline]
pub fn parse<'chain, 'table>(
    chain: &'chain mut Chain<'table>,
    ranges: &'chain mut Ranges,
    geometry: &Geometry,
) -> Result<Request<'chain, 'table>, DriverFault> {
    if let Some(fault) = chain.fault() {
        return Err(fault);
    }
    let (readable, writable) = chain.split_mut();
    let (kind, sector, out) = cut_header(readable)?;
    let into = cut_status(writable).ok_or(DriverFault::StatusMissing)?;
    let operation = match kind {
        VIRTIO_BLK_T_IN => {
            range_of(into, sector, geometry).map(|range| Operation::Read { range, into })
        }
        VIRTIO_BLK_T_OUT if !geometry.read_only => {
            range_of(out, sector, geometry).map(|range| Operation::Write { range, from: out })
        }
        VIRTIO_BLK_T_OUT => None,
        VIRTIO_BLK_T_FLUSH => Some(Operation::Flush),
        VIRTIO_BLK_T_GET_ID => return Ok(Request::GetId(into)),
        VIRTIO_BLK_T_DISCARD if geometry.discard_sectors_max > 0 => {
            return Ok(discard(out, ranges, geometry));
        }
        VIRTIO_BLK_T_WRITE_ZEROES if geometry.write_zeroes_sectors_max > 0 => {
            return Ok(write_zeroes(out, ranges, geometry));
        }
        _ => return Ok(Request::Answer(Status::Unsupported)),
    };
    Ok(operation.map_or(Request::Answer(Status::IoError), Request::Operation))
}

/// Returns the blocks from `sector` on that `data` fills.
#[inline]
fn range_of(data: Data<'_, '_>, sector: u64, geometry: &Geometry) -> Option<SectorRange> {
    let bytes = length(data);
    if bytes > REQUEST_BYTES_MAX {
        return None;
    }
    geometry.blocks(sector, bytes)
}

#[inline]
fn length(data: Data<'_, '_>) -> u64 {
    data.iter().map(|segment| segment.len() as u64).sum()
}

/// Copies what lies `skip` bytes into `data` to `bytes`. Returns how much there was.
#[inline]
fn gather(data: Data<'_, '_>, mut skip: usize, bytes: &mut [u8]) -> usize {
    let mut done = 0;
    for segment in data {
        if done == bytes.len() {
            break;
        }
        done += segment.skip(skip).copy_to(&mut bytes[done..]);
        skip = skip.saturating_sub(segment.len());
    }
    done
}

/// Returns the type, the sector and what follows the header.
#[inline]
fn cut_header<'chain, 'table>(
    readable: &'chain mut [Segment<'table>],
) -> Result<(u32, u64, Data<'chain, 'table>), DriverFault> {
    if let [header, ..] = readable
        && header.len() == HEADER_BYTES
        && let (Some(kind), Some(sector)) = (header.load_u64(0), header.load_u64(8))
    {
        // The upper half of the first word is reserved.
        return Ok((kind as u32, sector, &readable[1..]));
    }
    gather_header(readable)
}

/// The header shares its buffer with data, or lies in several.
#[cold]
#[inline(never)]
fn gather_header<'chain, 'table>(
    readable: &'chain mut [Segment<'table>],
) -> Result<(u32, u64, Data<'chain, 'table>), DriverFault> {
    let mut header = [0; HEADER_BYTES];
    let found = gather(readable, 0, &mut header);
    if found < HEADER_BYTES {
        return Err(DriverFault::HeaderShort(found));
    }
    let header = u128::from_le_bytes(header);
    let (kind, sector) = (header as u32, (header >> 64) as u64);
    Ok((kind, sector, trim_front(readable, HEADER_BYTES)))
}

/// Returns `segments` without their first `bytes` bytes, which exist.
fn trim_front<'chain, 'table>(
    segments: &'chain mut [Segment<'table>],
    bytes: usize,
) -> Data<'chain, 'table> {
    let mut left = bytes;
    for (place, segment) in segments.iter_mut().enumerate() {
        if segment.len() > left {
            *segment = segment.skip(left);
            return &segments[place..];
        }
        left -= segment.len();
    }
    &[]
}

/// Returns `segments` without their last byte, the status; `None` when there is none.
#[inline]
fn cut_status<'chain, 'table>(
    segments: &'chain mut [Segment<'table>],
) -> Option<Data<'chain, 'table>> {
    let before = segments.len().checked_sub(1)?;
    let last = &mut segments[before];
    if last.len() == 1 {
        return Some(&segments[..before]);
    }
    *last = last.first(last.len().checked_sub(1)?);
    Some(segments)
}

fn discard<'chain, 'table>(
    data: Data<'_, '_>,
    ranges: &'chain mut Ranges,
    geometry: &Geometry,
) -> Request<'chain, 'table> {
    let allowed = Allowed {
        ranges_max: RANGES_MAX,
        sectors_max: geometry.discard_sectors_max,
        flags: 0,
    };
    match read_ranges(data, ranges, geometry, allowed) {
        Err(status) => Request::Answer(status),
        Ok(_) => {
            // Linux splits at the block size but does not align what it splits: round inwards.
            let block = u64::from(geometry.block_bytes) / super::SECTOR_BYTES;
            for range in ranges.iter_mut() {
                let end = (range.first + range.count) / block * block;
                range.first = range.first.next_multiple_of(block);
                range.count = end.saturating_sub(range.first);
            }
            ranges.retain(|range| range.count > 0);
            Request::Operation(Operation::Discard(ranges))
        }
    }
}

fn write_zeroes<'chain, 'table>(
    data: Data<'_, '_>,
    ranges: &'chain mut Ranges,
    geometry: &Geometry,
) -> Request<'chain, 'table> {
    let allowed = Allowed {
        ranges_max: WRITE_ZEROES_RANGES_MAX,
        sectors_max: geometry.write_zeroes_sectors_max,
        flags: VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
    };
    match read_ranges(data, ranges, geometry, allowed) {
        Err(status) => Request::Answer(status),
        Ok(flags) => {
            let whole = |range: &SectorRange| geometry.blocks(range.first, range.bytes()).is_some();
            if !ranges.iter().all(whole) {
                return Request::Answer(Status::IoError);
            }
            let unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0;
            Request::Operation(Operation::WriteZeroes { ranges, unmap })
        }
    }
}

/// What was advertised for one kind of request.
#[derive(Clone, Copy)]
struct Allowed {
    ranges_max: usize,
    sectors_max: u32,
    flags: u32,
}

/// Reads `struct virtio_blk_discard_write_zeroes` entries into `ranges`. Returns the flags that all of
/// them carry.
fn read_ranges(
    data: Data<'_, '_>,
    ranges: &mut Ranges,
    geometry: &Geometry,
    allowed: Allowed,
) -> Result<u32, Status> {
    ranges.clear();
    let bytes = length(data) as usize;
    let count = bytes / RANGE_BYTES;
    let sensible = count > 0 && count <= allowed.ranges_max && bytes.is_multiple_of(RANGE_BYTES);
    if geometry.read_only || !sensible {
        return Err(Status::IoError);
    }
    let mut flags_of_all = allowed.flags;
    for place in 0..count {
        let mut entry = [0; RANGE_BYTES];
        gather(data, place * RANGE_BYTES, &mut entry);
        let entry = u128::from_le_bytes(entry);
        let (first, sectors) = (entry as u64, (entry >> 64) as u32);
        let flags = (entry >> 96) as u32;
        if flags & !allowed.flags != 0 {
            return Err(Status::Unsupported);
        }
        flags_of_all &= flags;
        if sectors > allowed.sectors_max {
            return Err(Status::IoError);
        }
        ranges.push(
            geometry
                .range(first, u64::from(sectors))
                .ok_or(Status::IoError)?,
        );
    }
    Ok(flags_of_all)
}
