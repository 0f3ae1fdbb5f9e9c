//! What every backend has to do, asked of one queue directly.

use pollux_dataplane::backend::{Backend, BackendQueue, Outcome, Submission, Token};
use pollux_dataplane::blk::{Geometry, Operation, SECTOR_BYTES, SectorRange};
use pollux_dataplane::mem::Segment;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vm_memory::MmapRegion;

const PATIENCE: Duration = Duration::from_secs(30);
const MEMORY_BYTES: usize = 4 << 20;

/// A queue and memory for its data.
pub(crate) struct Rig<Q> {
    pub(crate) queue: Q,
    pub(crate) geometry: Geometry,
    pub(crate) memory: Arc<MmapRegion>,
}

impl<Q: BackendQueue> Rig<Q> {
    pub(crate) fn new(backend: &impl Backend<Queue = Q>) -> Self {
        Self {
            queue: backend.open_queue().unwrap(),
            geometry: backend.geometry().clone(),
            memory: MmapRegion::new(MEMORY_BYTES).unwrap().into(),
        }
    }

    pub(crate) fn at(&self, offset: usize, bytes: usize) -> Segment<'_> {
        Segment::of_region(&self.memory, offset, bytes).unwrap()
    }

    pub(crate) fn range(&self, first: u64, bytes: usize) -> SectorRange {
        self.geometry
            .range(first, bytes as u64 / SECTOR_BYTES)
            .unwrap()
    }

    /// Waits for the next completion.
    pub(crate) fn completion(&mut self) -> (Token, Outcome) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(completion) = self.queue.complete() {
                return completion;
            }
            // As a worker does whose next request the queue had no room for.
            self.queue.commit();
            assert!(Instant::now() < end, "nothing completes");
        }
    }

    fn finish(&mut self, token: Token, submitted: Submission) -> Outcome {
        self.queue.commit();
        match submitted {
            Submission::Complete(outcome) => outcome,
            Submission::Pending => {
                let (completed, outcome) = self.completion();
                assert_eq!(completed, token);
                outcome
            }
            Submission::Busy => panic!("busy with nothing pending"),
        }
    }

    /// Writes the bytes of `parts`, offsets and lengths in the memory, to the disk from sector `first` on.
    pub(crate) fn write(&mut self, first: u64, parts: &[(usize, usize)]) -> Outcome {
        let range = self.range(first, total(parts));
        let from: Vec<_> = parts.iter().map(|it| segment(&self.memory, *it)).collect();
        let from = &from;
        let submitted = self.queue.submit(3, Operation::Write { range, from });
        self.finish(3, submitted)
    }

    /// Reads to where `parts` are.
    pub(crate) fn read(&mut self, first: u64, parts: &[(usize, usize)]) -> Outcome {
        let range = self.range(first, total(parts));
        let into: Vec<_> = parts.iter().map(|it| segment(&self.memory, *it)).collect();
        let into = &into;
        let submitted = self.queue.submit(5, Operation::Read { range, into });
        self.finish(5, submitted)
    }

    pub(crate) fn carry_out(&mut self, operation: Operation<'_, '_>) -> Outcome {
        let submitted = self.queue.submit(1023, operation);
        self.finish(1023, submitted)
    }

    pub(crate) fn fill(&self, offset: usize, bytes: &[u8]) {
        assert_eq!(self.at(offset, bytes.len()).copy_from(bytes), bytes.len());
    }

    pub(crate) fn bytes(&self, offset: usize, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        self.at(offset, bytes).copy_to(&mut found);
        found
    }

    pub(crate) fn bytes_of(&self, parts: &[(usize, usize)]) -> Vec<u8> {
        let found = parts
            .iter()
            .map(|&(offset, bytes)| self.bytes(offset, bytes));
        found.collect::<Vec<_>>().concat()
    }
}

pub(crate) fn segment(memory: &MmapRegion, (offset, bytes): (usize, usize)) -> Segment<'_> {
    Segment::of_region(memory, offset, bytes).unwrap()
}

fn total(parts: &[(usize, usize)]) -> usize {
    parts.iter().map(|(_, bytes)| bytes).sum()
}

/// Bytes that are nowhere the same twice in a row, other ones for each seed.
pub(crate) fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// All that is the same for every backend that keeps what is written.
pub(crate) fn keeps_its_promises(backend: &impl Backend) {
    reads_back(backend);
    queues_see_one_disk(backend);
    many_at_once(backend);
    is_durable_at_once(backend);
    zeroes_and_discards(backend);
    erases(backend);
    abandons(backend, false);
    abandons(backend, true);
}

/// At every alignment in memory and any size, in one part and in many.
fn reads_back(backend: &impl Backend) {
    let mut rig = Rig::new(backend);
    let block = rig.geometry.block_bytes as usize;
    let sectors = block as u64 / SECTOR_BYTES;
    let last = rig.geometry.capacity_sectors - sectors;
    let sizes = [1, 2, 3, 8, 33, 256].map(|blocks| blocks * block);
    let cases = sizes.into_iter().filter(|bytes| *bytes <= 1 << 20);
    for (seed, bytes) in (1..).zip(cases) {
        for (place, lead) in (0..).zip([0, 1, 2, 4, 511, 512, 4095]) {
            let first = sectors * (seed * 7 + place);
            let wanted = pattern(seed + place, bytes);
            let cuts = [
                vec![(lead, bytes)],
                vec![(lead, 7), (2 << 20, bytes - 7)],
                (0..bytes / 16)
                    .map(|cut| (lead + cut * 32, 16))
                    .take(64)
                    .collect(),
            ];
            for mut parts in cuts {
                let rest = bytes - total(&parts);
                if rest > 0 {
                    parts.push(((2 << 20) + lead, rest));
                }
                let mut from = 0;
                for &(offset, length) in &parts {
                    rig.fill(offset, &wanted[from..from + length]);
                    from += length;
                }
                assert_eq!(
                    rig.write(first, &parts),
                    Outcome::Done,
                    "{bytes} from {lead}"
                );
                for &(offset, length) in &parts {
                    rig.at(offset, length).zero();
                }
                assert_eq!(rig.read(first, &parts), Outcome::Done);
                assert!(
                    rig.bytes_of(&parts) == wanted,
                    "{bytes} from {lead} in {}",
                    parts.len()
                );
            }
        }
    }
    rig.fill(0, &pattern(99, block));
    assert_eq!(rig.write(last, &[(0, block)]), Outcome::Done);
    assert_eq!(rig.read(last, &[(8192, block)]), Outcome::Done);
    assert!(rig.bytes(8192, block) == pattern(99, block));
}

fn queues_see_one_disk(backend: &impl Backend) {
    let (mut one, mut other) = (Rig::new(backend), Rig::new(backend));
    let block = one.geometry.block_bytes as usize;
    one.fill(0, &pattern(7, block));
    assert_eq!(one.write(0, &[(0, block)]), Outcome::Done);
    // It covers what went through another queue.
    assert_eq!(other.carry_out(Operation::Flush), Outcome::Done);
    assert_eq!(other.read(0, &[(0, block)]), Outcome::Done);
    assert!(other.bytes(0, block) == pattern(7, block));
}

/// Hands in as many as there is room for, and takes each back once.
fn many_at_once(backend: &impl Backend) {
    let mut rig = Rig::new(backend);
    let block = rig.geometry.block_bytes as usize;
    let memory = Arc::clone(&rig.memory);
    let count = 64;
    for token in 0..count {
        rig.fill(
            usize::from(token) * block,
            &pattern(u64::from(token), block),
        );
    }
    let mut pending = 0;
    let mut done = vec![0; usize::from(count)];
    for token in 0..count {
        let range = rig.range(u64::from(token) * block as u64 / SECTOR_BYTES, block);
        let from = [segment(&memory, (usize::from(token) * block, block))];
        loop {
            match rig
                .queue
                .submit(token, Operation::Write { range, from: &from })
            {
                Submission::Complete(outcome) => {
                    assert_eq!(outcome, Outcome::Done);
                    done[usize::from(token)] += 1;
                }
                Submission::Pending => pending += 1,
                Submission::Busy => {
                    rig.queue.commit();
                    let (completed, outcome) = rig.completion();
                    assert_eq!(outcome, Outcome::Done);
                    done[usize::from(completed)] += 1;
                    pending -= 1;
                    continue;
                }
            }
            break;
        }
    }
    rig.queue.commit();
    assert_eq!(rig.queue.in_flight(), pending);
    for _ in 0..pending {
        let (completed, outcome) = rig.completion();
        assert_eq!(outcome, Outcome::Done);
        done[usize::from(completed)] += 1;
    }
    assert!(done.iter().all(|times| *times == 1), "{done:?}");
    assert_eq!((rig.queue.in_flight(), rig.queue.complete()), (0, None));
    let bytes = usize::from(count) * block;
    assert_eq!(rig.read(0, &[(1 << 20, bytes)]), Outcome::Done);
    assert!(rig.bytes(1 << 20, bytes) == rig.bytes(0, bytes));
}

/// For a driver that does not flush: as any other, and back. A flush has nothing to do then, and is no error.
fn is_durable_at_once(backend: &impl Backend) {
    let mut rig = Rig::new(backend);
    let block = rig.geometry.block_bytes as usize;
    let sectors = block as u64 / SECTOR_BYTES;
    for (seed, write_through) in (23..).zip([true, false, true]) {
        rig.queue.set_write_through(write_through);
        let bytes = 9 * block;
        rig.fill(0, &pattern(seed, bytes));
        assert_eq!(rig.write(3 * sectors, &[(0, bytes)]), Outcome::Done);
        let zeroed = rig.range(3 * sectors, block);
        let zeroes = Operation::WriteZeroes {
            ranges: &[zeroed],
            unmap: false,
        };
        let mut wanted = pattern(seed, bytes);
        match rig.carry_out(zeroes) {
            Outcome::Done => wanted[..block].fill(0),
            other => assert_eq!(other, Outcome::Unsupported),
        }
        assert_eq!(rig.carry_out(Operation::Flush), Outcome::Done);
        assert_eq!(rig.read(3 * sectors, &[(1 << 20, bytes)]), Outcome::Done);
        assert!(rig.bytes(1 << 20, bytes) == wanted, "{write_through}");
    }
}

fn zeroes_and_discards(backend: &impl Backend) {
    let mut rig = Rig::new(backend);
    let block = rig.geometry.block_bytes as usize;
    let sectors = block as u64 / SECTOR_BYTES;
    let bytes = 64 * block;
    for unmap in [false, true] {
        rig.fill(0, &pattern(13, bytes));
        assert_eq!(rig.write(0, &[(0, bytes)]), Outcome::Done);
        let zeroed = SectorRange {
            first: 8 * sectors,
            count: 16 * sectors,
        };
        let zeroes = Operation::WriteZeroes {
            ranges: &[zeroed],
            unmap,
        };
        let outcome = rig.carry_out(zeroes);
        assert_eq!(rig.read(0, &[(1 << 20, bytes)]), Outcome::Done);
        let found = rig.bytes(1 << 20, bytes);
        let mut wanted = pattern(13, bytes);
        match outcome {
            Outcome::Done => wanted[8 * block..24 * block].fill(0),
            other => assert_eq!(other, Outcome::Unsupported),
        }
        assert!(found == wanted, "unmap {unmap}");
    }
    if rig.geometry.discard_sectors_max == 0 {
        return;
    }
    rig.fill(0, &pattern(17, bytes));
    assert_eq!(rig.write(0, &[(0, bytes)]), Outcome::Done);
    let ranges = [(0, 8), (16, 8), (40, 1)].map(|(first, count)| SectorRange {
        first: first * sectors,
        count: count * sectors,
    });
    let outcome = rig.carry_out(Operation::Discard(&ranges));
    assert!(
        matches!(outcome, Outcome::Done | Outcome::Unsupported),
        "{outcome:?}"
    );
    assert_eq!(rig.read(0, &[(1 << 20, bytes)]), Outcome::Done);
    let (found, written) = (rig.bytes(1 << 20, bytes), pattern(17, bytes));
    for place in 0..64 {
        let at = place * block..(place + 1) * block;
        let is_in = |range: &SectorRange| {
            let sector = place as u64 * sectors;
            range.first <= sector && sector < range.first + range.count
        };
        let kept = found[at.clone()] == written[at.clone()];
        let zeroed = ranges.iter().any(is_in) && found[at].iter().all(|byte| *byte == 0);
        assert!(kept || zeroed, "block {place}");
    }
}

/// What is erased is gone, and nothing else.
fn erases(backend: &impl Backend) {
    let mut rig = Rig::new(backend);
    let block = rig.geometry.block_bytes as usize;
    let sectors = block as u64 / SECTOR_BYTES;
    let bytes = 64 * block;
    rig.fill(0, &pattern(19, bytes));
    assert_eq!(rig.write(0, &[(0, bytes)]), Outcome::Done);
    let ranges = [(4, 8), (32, 1), (50, 0)].map(|(first, count)| SectorRange {
        first: first * sectors,
        count: count * sectors,
    });
    let outcome = rig.carry_out(Operation::SecureErase(&ranges));
    assert_eq!(rig.read(0, &[(1 << 20, bytes)]), Outcome::Done);
    let (found, written) = (rig.bytes(1 << 20, bytes), pattern(19, bytes));
    if rig.geometry.secure_erase_sectors_max == 0 {
        assert_ne!(outcome, Outcome::Done);
        return assert!(found == written);
    }
    assert_eq!(outcome, Outcome::Done);
    for place in 0..64 {
        let at = place * block..(place + 1) * block;
        let is_erased = (4..12).contains(&place) || place == 32;
        assert_eq!(found[at.clone()] != written[at], is_erased, "block {place}");
    }
}

/// Afterwards nothing is pending and the queue goes on. What is asked to end before does so once.
fn abandons(backend: &impl Backend, aborts: bool) {
    let mut rig = Rig::new(backend);
    let block = rig.geometry.block_bytes as usize;
    let mut pending = 0;
    for token in 0..16 {
        let into = [segment(&rig.memory, (usize::from(token) * block, block))];
        let range = rig.range(0, block);
        let read = Operation::Read { range, into: &into };
        pending += usize::from(rig.queue.submit(token, read) == Submission::Pending);
    }
    rig.queue.commit();
    if aborts {
        let end = Instant::now() + rig.queue.abort();
        let mut ended = Vec::new();
        while rig.queue.in_flight() > 0 && Instant::now() < end {
            if let Some((token, outcome)) = rig.queue.complete() {
                assert!(!ended.contains(&token), "{token} ends twice");
                assert_ne!(outcome, Outcome::Unsupported);
                ended.push(token);
            }
        }
        assert_eq!(rig.queue.in_flight(), pending - ended.len());
    }
    rig.queue.abandon();
    assert_eq!((rig.queue.in_flight(), rig.queue.complete()), (0, None));
    rig.fill(0, &pattern(3, block));
    assert_eq!(rig.write(0, &[(0, block)]), Outcome::Done);
    assert_eq!(rig.read(0, &[(4096, block)]), Outcome::Done);
    assert!(rig.bytes(4096, block) == pattern(3, block));
}
