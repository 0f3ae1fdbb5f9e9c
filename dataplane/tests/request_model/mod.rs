//! What a block request means, in plain numbers, and how to make up any request.

#![allow(unreachable_pub)]

use pollux_dataplane::blk::{Geometry, Operation, Request, SectorRange, Status};
use pollux_dataplane::mem::Segment;
use proptest::prelude::*;

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const SECURE_ERASE: u32 = 14;
pub const WRITE_ZEROES: u32 = 13;

/// What the device is to do, in numbers only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Read(u64, u64),
    Write(u64, u64),
    Flush,
    Discard(Vec<(u64, u64)>),
    SecureErase(Vec<(u64, u64)>),
    WriteZeroes(Vec<(u64, u64)>, bool),
    GetId,
    IoError,
    Unsupported,
}

/// One request as a driver means it, before it is cut into descriptors.
#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: u32,
    pub sector: u64,
    pub out: Vec<u8>,
    pub in_bytes: usize,
}

/// An entry of a DISCARD or WRITE_ZEROES request.
type Entry = (u64, u32, u32);

impl Plan {
    /// Header and payload.
    pub fn readable(&self) -> Vec<u8> {
        let kind = self.kind.to_le_bytes();
        // The reserved field means nothing.
        let reserved = 0xdead_beef_u32.to_le_bytes();
        let sector = self.sector.to_le_bytes();
        [&kind[..], &reserved, &sector, &self.out].concat()
    }

    pub fn meaning(&self, disk: &Geometry) -> Meaning {
        let data = |bytes: usize| {
            let block = u64::from(disk.block_bytes) / 512;
            let aligned = self.sector.is_multiple_of(block)
                && (bytes as u64).is_multiple_of(u64::from(disk.block_bytes));
            let count = bytes as u64 / 512;
            let end = u128::from(self.sector) + u128::from(count);
            (aligned && end <= u128::from(disk.capacity_sectors)).then_some((self.sector, count))
        };
        let found = match self.kind {
            IN => data(self.in_bytes).map(|(first, count)| Meaning::Read(first, count)),
            OUT if disk.read_only => None,
            OUT => data(self.out.len()).map(|(first, count)| Meaning::Write(first, count)),
            FLUSH => Some(Meaning::Flush),
            GET_ID => Some(Meaning::GetId),
            DISCARD if disk.discard_sectors_max > 0 => return self.discard(disk),
            SECURE_ERASE if disk.secure_erase_sectors_max > 0 => return self.secure_erase(disk),
            WRITE_ZEROES if disk.write_zeroes_sectors_max > 0 => return self.write_zeroes(disk),
            _ => Some(Meaning::Unsupported),
        };
        found.unwrap_or(Meaning::IoError)
    }

    /// The entries up to the first bad one, and what that one is answered with.
    fn entries(
        &self,
        disk: &Geometry,
        (entries_max, sectors_max, flags): (usize, u32, u32),
    ) -> Result<Vec<Entry>, Meaning> {
        let whole = self.out.len().is_multiple_of(16) && !self.out.is_empty();
        if disk.read_only || !whole || self.out.len() > entries_max * 16 {
            return Err(Meaning::IoError);
        }
        let mut entries = Vec::new();
        for entry in self.out.chunks(16) {
            let first = u64::from_le_bytes(entry[..8].try_into().unwrap());
            let count = u32::from_le_bytes(entry[8..12].try_into().unwrap());
            let set = u32::from_le_bytes(entry[12..].try_into().unwrap());
            let end = u128::from(first) + u128::from(count);
            if set & !flags != 0 {
                return Err(Meaning::Unsupported);
            }
            if count > sectors_max || end > u128::from(disk.capacity_sectors) {
                return Err(Meaning::IoError);
            }
            entries.push((first, count, set));
        }
        Ok(entries)
    }

    fn discard(&self, disk: &Geometry) -> Meaning {
        let entries = match self.entries(disk, (256, disk.discard_sectors_max, 0)) {
            Ok(entries) => entries,
            Err(answer) => return answer,
        };
        let block = u64::from(disk.block_bytes) / 512;
        // Every block that lies in the range as a whole, found one by one.
        let ranges = entries.iter().filter_map(|&(first, count, _)| {
            let end = first + u64::from(count);
            let blocks: Vec<u64> = (first / block..=end / block)
                .filter(|index| index * block >= first && (index + 1) * block <= end)
                .collect();
            Some((blocks.first()? * block, blocks.len() as u64 * block))
        });
        Meaning::Discard(ranges.collect())
    }

    fn secure_erase(&self, disk: &Geometry) -> Meaning {
        if self.out.is_empty() {
            return Meaning::Unsupported;
        }
        let limits = (256, disk.secure_erase_sectors_max, 0);
        match self.whole_entries(disk, limits) {
            Ok((ranges, _)) => Meaning::SecureErase(ranges),
            Err(answer) => answer,
        }
    }

    fn write_zeroes(&self, disk: &Geometry) -> Meaning {
        let limits = (1, disk.write_zeroes_sectors_max, 1);
        match self.whole_entries(disk, limits) {
            Ok((ranges, unmap)) => Meaning::WriteZeroes(ranges, unmap),
            Err(answer) => answer,
        }
    }

    /// The entries as ranges of whole blocks, and whether all have the flag.
    fn whole_entries(
        &self,
        disk: &Geometry,
        limits: (usize, u32, u32),
    ) -> Result<(Vec<(u64, u64)>, bool), Meaning> {
        let entries = self.entries(disk, limits)?;
        let block = u64::from(disk.block_bytes) / 512;
        let whole = |&(first, count, _): &Entry| {
            first.is_multiple_of(block) && u64::from(count).is_multiple_of(block)
        };
        if !entries.iter().all(whole) {
            return Err(Meaning::IoError);
        }
        let flagged = entries.iter().all(|&(_, _, flags)| flags == 1);
        let ranges = entries
            .iter()
            .map(|&(first, count, _)| (first, count.into()));
        Ok((ranges.collect(), flagged))
    }
}

pub fn meaning(request: &Request<'_, '_>) -> Meaning {
    let pairs = |ranges: &[SectorRange]| ranges.iter().map(|r| (r.first, r.count)).collect();
    match request {
        Request::Operation(Operation::Read { range, .. }) => {
            Meaning::Read(range.first, range.count)
        }
        Request::Operation(Operation::Write { range, .. }) => {
            Meaning::Write(range.first, range.count)
        }
        Request::Operation(Operation::Flush) => Meaning::Flush,
        Request::Operation(Operation::Discard(ranges)) => Meaning::Discard(pairs(ranges)),
        Request::Operation(Operation::SecureErase(ranges)) => Meaning::SecureErase(pairs(ranges)),
        Request::Operation(Operation::WriteZeroes { ranges, unmap }) => {
            Meaning::WriteZeroes(pairs(ranges), *unmap)
        }
        Request::GetId(_) => Meaning::GetId,
        Request::Answer(Status::IoError) => Meaning::IoError,
        Request::Answer(Status::Unsupported) => Meaning::Unsupported,
        Request::Answer(Status::Ok) => panic!("nothing is answered OK without being done"),
    }
}

/// The data of `request` that the backend or the serial number goes through.
pub fn data<'chain, 'table>(request: &Request<'chain, 'table>) -> &'chain [Segment<'table>] {
    match request {
        Request::Operation(Operation::Read { into, .. }) | Request::GetId(into) => into,
        Request::Operation(Operation::Write { from, .. }) => from,
        _ => &[],
    }
}

pub const DISK: Geometry = Geometry {
    capacity_sectors: 0,
    block_bytes: 512,
    physical_block_exponent: 0,
    optimal_io_blocks: 0,
    read_only: false,
    volatile_cache: true,
    discard_sectors_max: 0,
    write_zeroes_sectors_max: 0,
    write_zeroes_may_unmap: true,
    secure_erase_sectors_max: 0,
    serial: [b's'; 20],
};

pub fn disk() -> impl Strategy<Value = Geometry> {
    let block_bytes = prop::sample::select(vec![512_u32, 1024, 4096]);
    let limit = prop::sample::select(vec![0_u32, 8, 1 << 22]);
    let capacity = prop::sample::select(vec![8_u64, 1024, (1 << 40) + 8]);
    (
        block_bytes,
        prop::bool::weighted(0.2),
        [limit.clone(), limit.clone(), limit],
        capacity,
    )
        .prop_map(|(block_bytes, read_only, limits, capacity_sectors)| {
            let [
                discard_sectors_max,
                write_zeroes_sectors_max,
                secure_erase_sectors_max,
            ] = limits;
            Geometry {
                capacity_sectors,
                block_bytes,
                read_only,
                discard_sectors_max,
                write_zeroes_sectors_max,
                secure_erase_sectors_max,
                ..DISK
            }
        })
}

/// Sectors at and around every edge.
fn sector() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..16_u64,
        1000..1030_u64,
        (1_u64 << 40)..(1 << 40) + 16,
        any::<u64>()
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![4 => Just(0_u32), 4 => Just(1), 1 => any::<u32>()];
    let count = prop_oneof![4 => 0..12_u32, 1 => any::<u32>()];
    let entry = (sector(), count, flags)
        .prop_map(|(sector, count, flags)| {
            [
                &sector.to_le_bytes()[..],
                &count.to_le_bytes(),
                &flags.to_le_bytes(),
            ]
            .concat()
        })
        .boxed();
    let good = (0..16_u64, 0..12_u32);
    let good = prop::collection::vec(good, 1..3).prop_flat_map(|entries| {
        (0..2_u32).prop_map(move |flags| {
            let bytes = |&(sector, count): &(u64, u32)| {
                let last = [count.to_le_bytes(), flags.to_le_bytes()].concat();
                [&sector.to_le_bytes()[..], &last].concat()
            };
            entries.iter().flat_map(bytes).collect::<Vec<u8>>()
        })
    });
    prop_oneof![
        2 => (0..5_usize).prop_map(|blocks| vec![7; blocks * 512]),
        2 => (0..3_usize).prop_map(|blocks| vec![8; blocks * 4096]),
        4 => good,
        2 => prop::collection::vec(entry.clone(), 1..4).prop_map(|entries| entries.concat()),
        1 => prop::collection::vec(entry, 250..260).prop_map(|entries| entries.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

prop_compose! {
    pub fn plan()(
        kind in prop_oneof![
            8 => prop::sample::select(vec![IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, SECURE_ERASE]),
            1 => any::<u32>(),
        ],
        sector in sector(),
        out in payload(),
        in_bytes in prop_oneof![(0..17_usize).prop_map(|n| n * 512), 0..4096_usize],
    ) -> Plan {
        Plan { kind, sector, out, in_bytes }
    }
}
