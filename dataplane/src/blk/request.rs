//! From a chain to a request: the header, the data, the place of the status (VIRTIO 1.3, 5.2.6).

use arrayvec::ArrayVec;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::{Data, Geometry, Operation, SectorRange, Status};
use crate::limits::{RANGES_MAX, REQUEST_BYTES_MAX, WRITE_ZEROES_RANGES_MAX};
use crate::mem::Segment;
use crate::ring::{Chain, DriverFault};

const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;

/// Room for the ranges of one DISCARD, SECURE_ERASE or WRITE_ZEROES request.
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
    if let Some((write, range)) = plain(chain, geometry) {
        // A shared borrow for all of 'chain: nothing is cut off here.
        let chain: &'chain Chain<'table> = chain;
        let data = chain.plain().map_or(&[][..], |(segments, _)| {
            let data = segments
                .split_first()
                .and_then(|(_, rest)| rest.split_last());
            data.map_or(&[][..], |(_, data)| data)
        });
        return Ok(Request::Operation(if write {
            Operation::Write { range, from: data }
        } else {
            Operation::Read { range, into: data }
        }));
    }
    parse_any(chain, ranges, geometry)
}

/// Looks for a read or write that lies as nearly all do: a header, data and a status, each by itself. Returns
/// whether it is a write, and its blocks.
#[inline]
fn plain(chain: &Chain<'_>, geometry: &Geometry) -> Option<(bool, SectorRange)> {
    let (segments, readable) = chain.plain()?;
    let [header, data @ .., status] = segments else {
        return None;
    };
    if header.len() != HEADER_BYTES || status.len() != 1 {
        return None;
    }
    let (kind, sector) = header.load_two_u64(0)?;
    // The upper half of the first word is reserved.
    let write = match kind as u32 {
        VIRTIO_BLK_T_IN if readable == 1 => false,
        VIRTIO_BLK_T_OUT if readable == segments.len() - 1 && !geometry.read_only => true,
        _ => return None,
    };
    let range = range_of(data, sector, geometry)?;
    Some((write, range))
}

/// Any request, however it is laid out.
#[inline(never)]
fn parse_any<'chain, 'table>(
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
        VIRTIO_BLK_T_SECURE_ERASE if geometry.secure_erase_sectors_max > 0 => {
            return Ok(secure_erase(out, ranges, geometry));
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
    match data {
        [only] => only.len() as u64,
        several => several.iter().map(|segment| segment.len() as u64).sum(),
    }
}

/// Copies what lies `skip` bytes into `data` to `bytes`. Returns how much there was.
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
fn cut_header<'chain, 'table>(
    readable: &'chain mut [Segment<'table>],
) -> Result<(u32, u64, Data<'chain, 'table>), DriverFault> {
    let mut header = [0; HEADER_BYTES];
    let found = gather(readable, 0, &mut header);
    if found < HEADER_BYTES {
        return Err(DriverFault::HeaderShort(found));
    }
    let header = u128::from_le_bytes(header);
    // The upper half of the first word is reserved.
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

fn secure_erase<'chain, 'table>(
    data: Data<'_, '_>,
    ranges: &'chain mut Ranges,
    geometry: &Geometry,
) -> Request<'chain, 'table> {
    let allowed = Allowed {
        ranges_max: RANGES_MAX,
        sectors_max: geometry.secure_erase_sectors_max,
        flags: 0,
    };
    if data.is_empty() {
        // Linux takes requests of an even type for reads, and offers the ranges of this one to be written
        // (virtblk_add_req in drivers/block/virtio_blk.c). VDUSE does not even copy them then.
        return Request::Answer(Status::Unsupported);
    }
    match read_ranges(data, ranges, geometry, allowed) {
        Err(status) => Request::Answer(status),
        // What is left of a block that is asked for in part would be a promise broken.
        Ok(_) if !are_whole(ranges, geometry) => Request::Answer(Status::IoError),
        Ok(_) => Request::Operation(Operation::SecureErase(ranges)),
    }
}

fn are_whole(ranges: &Ranges, geometry: &Geometry) -> bool {
    let is_whole = |range: &SectorRange| geometry.blocks(range.first, range.bytes()).is_some();
    ranges.iter().all(is_whole)
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
            if !are_whole(ranges, geometry) {
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
