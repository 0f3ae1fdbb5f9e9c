//! Request parsing against a plain model: any request in any legal layout of descriptors means the same,
//! and arbitrary bytes are a driver fault or a request, never a panic or an access out of bounds.

mod request_model;

use std::ops::Range;

use pollux_dataplane::blk::{Geometry, Ranges, parse};
use pollux_dataplane::driver::{Buffer, DriverMemory, SplitDriver};
use pollux_dataplane::mem::{Direction, Iova, Segment, Translator};
use pollux_dataplane::ring::{Chain, DeviceQueue, RingFeatures, SplitQueue};
use proptest::prelude::*;
use request_model::{
    DISCARD, DISK, FLUSH, GET_ID, IN, Meaning, OUT, SECURE_ERASE, WRITE_ZEROES, data, disk,
    meaning, plan,
};

/// Memory of a driver, and where it lies in this process.
struct Place {
    memory: DriverMemory,
    iova: Iova,
    host: usize,
    bytes: usize,
}

impl Place {
    fn new(bytes: usize) -> Self {
        let mut memory = DriverMemory::new(bytes as u64 + (1 << 16)).unwrap();
        let iova = memory.allocate(bytes as u64, 16);
        let host = memory.at(iova, 1).as_ptr() as usize;
        Self {
            memory,
            iova,
            host,
            bytes,
        }
    }

    /// Returns the address of each byte of `segments`.
    fn addresses(&self, segments: &[Segment<'_>]) -> Vec<u64> {
        let mut addresses = Vec::new();
        for segment in segments {
            let start = segment.as_ptr() as usize - self.host;
            assert!(start + segment.len() <= self.bytes, "out of bounds");
            assert!(!segment.is_empty(), "nothing to move");
            let first = self.iova.0 + start as u64;
            addresses.extend(first..first + segment.len() as u64);
        }
        addresses
    }

    /// Scatters `bytes` bytes, cut at `cuts`, over `at`, later pieces at lower addresses. Returns the
    /// pieces.
    fn scatter(&self, at: Range<u64>, bytes: usize, cuts: &[usize]) -> Vec<Range<u64>> {
        let mut ends: Vec<usize> = cuts
            .iter()
            .map(|cut| cut % bytes)
            .filter(|&c| c > 0)
            .collect();
        ends.push(bytes);
        ends.sort_unstable();
        ends.dedup();
        let mut start = 0;
        let mut free = self.iova.0 + at.end;
        let pieces = ends.into_iter().map(|end| {
            let length = (end - start) as u64;
            start = end;
            // A gap, so that no two pieces meet.
            free -= length + 3;
            assert!(free >= self.iova.0 + at.start);
            free..free + length
        });
        pieces.collect()
    }
}

fn features(indirect: bool) -> RingFeatures {
    if indirect {
        RingFeatures::INDIRECT_DESC
    } else {
        RingFeatures::empty()
    }
}

/// Everything that a walk finds: the segments of either direction, the last byte, the fault.
fn found(chain: &Chain<'_>) -> impl PartialEq + std::fmt::Debug + use<> {
    let places = |segments: &[Segment<'_>]| -> Vec<_> {
        let place = |segment: &Segment<'_>| (segment.as_ptr() as usize, segment.len());
        segments.iter().map(place).collect()
    };
    (
        places(chain.readable()),
        places(chain.writable()),
        chain.last_writable().map(|(_, iova)| iova),
        chain.fault(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_layout_of_a_request_means_the_same(
        plan in plan(),
        disk in disk(),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        header_cuts in prop::collection::vec(1..17_usize, 0..4),
        in_cuts in prop::collection::vec(any::<usize>(), 0..6),
        status_alone in any::<bool>(),
        again in any::<bool>(),
        indirect in any::<bool>(),
    ) {
        let mut place = Place::new(1 << 16);
        let readable = plan.readable();
        let cuts: Vec<usize> = cuts.into_iter().chain(header_cuts).collect();
        let out = place.scatter(0..1 << 15, readable.len(), &cuts);
        let mut in_cuts = in_cuts;
        if status_alone {
            in_cuts.push(plan.in_bytes);
        }
        let written = place.scatter(1 << 15..1 << 16, plan.in_bytes + 1, &in_cuts);
        let mut rest = &readable[..];
        for piece in &out {
            let (now, later) = rest.split_at((piece.end - piece.start) as usize);
            place.memory.write(Iova(piece.start), now);
            rest = later;
        }
        let buffer = |piece: &Range<u64>, direction| Buffer {
            address: Iova(piece.start),
            bytes: (piece.end - piece.start) as u32,
            direction,
        };
        let buffers: Vec<Buffer> = out
            .iter()
            .map(|piece| buffer(piece, Direction::Readable))
            .chain(written.iter().map(|piece| buffer(piece, Direction::Writable)))
            .collect();
        let mut driver = SplitDriver::new(&mut place.memory, 32, features(indirect) | RingFeatures::EVENT_IDX);
        driver.add(&buffers).unwrap();
        driver.publish();

        // It knows no region yet: the quick walk gives up once.
        let translator = Translator::new(place.memory.table());
        let mut queue = SplitQueue::new(&driver.config(), translator.table()).unwrap();
        let mut chain = Chain::new(&translator);
        let head = queue.take(&mut chain).unwrap().unwrap();
        queue.put_back(head);
        if again {
            // Now that the regions are known, the quick walk does what it can.
            queue.take(&mut chain).unwrap().unwrap().abandon();
        }
        let mut in_addresses: Vec<u64> = written.iter().cloned().flatten().collect();
        let status = in_addresses.pop().map(Iova);
        prop_assert_eq!(chain.last_writable().map(|(_, iova)| iova), status);
        let mut ranges = Ranges::new();
        let request = parse(&mut chain, &mut ranges, &disk).unwrap();
        let expected = plan.meaning(&disk);
        prop_assert_eq!(meaning(&request), expected.clone());
        let data = place.addresses(data(&request));
        match expected {
            Meaning::Read(..) | Meaning::GetId => prop_assert_eq!(data, in_addresses),
            Meaning::Write(..) => {
                let out_addresses: Vec<u64> = out.into_iter().flatten().skip(16).collect();
                prop_assert_eq!(data, out_addresses);
            }
            _ => {}
        }
    }
}

/// A chain may name the same memory again and again: what it asks for has a bound all the same.
#[test]
fn a_request_of_more_than_a_gibibyte_is_refused() {
    let disk = Geometry {
        capacity_sectors: 1 << 40,
        ..DISK
    };
    let piece_bytes = 2 << 20;
    for (pieces, expected) in [
        (512, Meaning::Read(0, 512 * 4096)),
        (513, Meaning::IoError),
        (1022, Meaning::IoError),
    ] {
        let mut place = Place::new(piece_bytes);
        let header = Buffer {
            address: place.iova,
            bytes: 16,
            direction: Direction::Readable,
        };
        let data = Buffer {
            bytes: piece_bytes as u32,
            direction: Direction::Writable,
            ..header
        };
        let status = Buffer { bytes: 1, ..data };
        let buffers = [vec![header], vec![data; pieces], vec![status]].concat();
        let mut driver = SplitDriver::new(&mut place.memory, 1024, RingFeatures::EVENT_IDX);
        driver.add(&buffers).unwrap();
        driver.publish();
        // It knows no region yet: the quick walk gives up once.
        let translator = Translator::new(place.memory.table());
        let mut queue = SplitQueue::new(&driver.config(), translator.table()).unwrap();
        let mut chain = Chain::new(&translator);
        queue.take(&mut chain).unwrap().unwrap().abandon();
        let mut ranges = Ranges::new();
        let request = parse(&mut chain, &mut ranges, &disk).unwrap();
        assert_eq!(meaning(&request), expected);
    }
}

const RAW_SIZE: u16 = 8;
const RAW_BYTES: usize = 1 << 13;

/// A descriptor that is wrong in any way, or in none.
fn raw_descriptor() -> impl Strategy<Value = (u64, u64)> {
    // Above the memory there is nothing.
    let offset = prop_oneof![8 => 0..RAW_BYTES as u64, 1 => any::<u64>()];
    let bytes = prop_oneof![
        4 => 0..64_u32,
        2 => prop::sample::select(vec![16_u32, 512, 4096]),
        1 => any::<u32>(),
    ];
    let flags = prop_oneof![8 => 0..4_u16, 1 => 4..8_u16, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0..RAW_SIZE, 1 => any::<u16>()];
    (offset, bytes, flags, next).prop_map(|(offset, bytes, flags, next)| {
        let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next) << 48;
        (offset, rest)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn arbitrary_descriptors_are_a_fault_or_a_request(
        descriptors in prop::collection::vec(raw_descriptor(), usize::from(RAW_SIZE)),
        nested in prop::collection::vec(raw_descriptor(), 0..16),
        noise in prop::collection::vec(any::<u8>(), 0..256),
        head in 0..RAW_SIZE,
        kind in prop::sample::select(vec![IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, SECURE_ERASE]),
        indirect in any::<bool>(),
        disk in disk(),
    ) {
        let mut place = Place::new(RAW_BYTES);
        let base = place.iova.0;
        // A valid header everywhere but where there is something else.
        let header = [&kind.to_le_bytes()[..], &[0; 12]].concat().repeat(RAW_BYTES / 16);
        place.memory.write(place.iova, &header);
        place.memory.write(Iova(base + 1024), &noise);
        for (index, (offset, rest)) in (0..).zip(&nested) {
            let entry = [base.wrapping_add(*offset).to_le_bytes(), rest.to_le_bytes()].concat();
            place.memory.write(Iova(base + 2048 + 16 * index), &entry);
        }
        let mut driver = SplitDriver::new(&mut place.memory, RAW_SIZE, features(indirect));
        for (index, (offset, rest)) in (0..).zip(&descriptors) {
            let is_table = rest >> 32 & 4 != 0;
            let offset = if is_table && offset % 2 == 0 { 2048 } else { *offset };
            driver.write_descriptor(index, base.wrapping_add(offset), *rest);
        }
        driver.make_available(head);
        driver.publish();

        // It knows no region yet: the quick walk gives up once.
        let translator = Translator::new(place.memory.table());
        // The rings lie behind the scratch memory, in the same region.
        place.bytes += 1 << 16;
        let mut queue = SplitQueue::new(&driver.config(), translator.table()).unwrap();
        let mut chain = Chain::new(&translator);
        let mut ranges = Ranges::new();
        let head = queue.take(&mut chain).unwrap().unwrap();
        let slowly = found(&chain);
        // Now that the regions are known, the quick walk does what it can.
        queue.put_back(head);
        queue.take(&mut chain).unwrap().unwrap().abandon();
        prop_assert_eq!(found(&chain), slowly);
        place.addresses(chain.readable());
        let writable = place.addresses(chain.writable());
        let bytes = |segments: &[Segment<'_>]| segments.iter().map(|s| s.len()).sum::<usize>();
        let (out, into) = (bytes(chain.readable()), bytes(chain.writable()));
        let status = chain.last_writable().map(|(_, iova)| iova);
        if let Some((last_byte, iova)) = chain.last_writable() {
            let same = translator.table().segment(iova, 1, Direction::Writable).unwrap();
            prop_assert_eq!(last_byte.as_ptr(), same.as_ptr());
        }
        if let Some(fault) = chain.fault() {
            let parsed = parse(&mut chain, &mut ranges, &disk);
            prop_assert_eq!(parsed.err(), Some(fault));
            return Ok(());
        }
        prop_assert_eq!(status, writable.last().copied().map(Iova));
        match parse(&mut chain, &mut ranges, &disk) {
            Err(_) => prop_assert!(out < 16 || into == 0),
            Ok(request) => {
                prop_assert!(out >= 16 && into > 0);
                let data = place.addresses(data(&request)).len() as u64;
                match meaning(&request) {
                    Meaning::Read(first, count) | Meaning::Write(first, count) => {
                        prop_assert_eq!(data, count * 512);
                        prop_assert!(first + count <= disk.capacity_sectors);
                    }
                    Meaning::GetId => prop_assert_eq!(data, into as u64 - 1),
                    Meaning::Discard(ranges)
                    | Meaning::SecureErase(ranges)
                    | Meaning::WriteZeroes(ranges, _) => {
                        for (first, count) in ranges {
                            prop_assert!(first + count <= disk.capacity_sectors);
                        }
                    }
                    Meaning::Flush | Meaning::IoError | Meaning::Unsupported => {}
                }
            }
        }
    }
}
