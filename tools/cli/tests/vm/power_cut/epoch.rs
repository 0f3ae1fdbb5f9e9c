//! What a writer writes between two FLUSHes, known to the machine before the cut and to that after it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(super) const BLOCK_BYTES: usize = 4096;
const EXTENTS: usize = 24;
const EXTENT_BLOCKS_MAX: u64 = 8;

/// Writes of one writer.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub(super) name: String,
    /// First of its blocks on the disk.
    pub(super) first_block: u64,
    /// Number of its blocks.
    pub(super) blocks: u64,
    pub(super) seed: u64,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Zeros, all of it: never written, or lost.
    Nothing,
    /// All of it what this epoch wrote.
    Of(u64),
    /// Parts of these two epochs, 0 being nothing: the power went between.
    Torn(u64, u64),
    /// Neither.
    Other,
}

impl Writer {
    fn hash(&self, of: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, &self.name, of).hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the blocks that epoch `epoch` writes, as ranges that do not meet.
    pub(super) fn extents(&self, epoch: u64) -> Vec<Range<u64>> {
        let mut random = SmallRng::seed_from_u64(self.hash(epoch));
        let mut taken = BTreeSet::new();
        let mut extents = Vec::new();
        while extents.len() < EXTENTS {
            let length = random.random_range(1..=EXTENT_BLOCKS_MAX);
            let start = self.first_block + random.random_range(0..=self.blocks - length);
            if (start..start + length).all(|block| !taken.contains(&block)) {
                taken.extend(start..start + length);
                extents.push(start..start + length);
            }
        }
        extents
    }

    /// Fills `sector` as epoch `epoch` writes it: the epoch, and words that nothing else has.
    fn fill(&self, number: u64, epoch: u64, sector: &mut [u8]) {
        let mut random = SmallRng::seed_from_u64(self.hash((number, epoch)));
        let (head, rest) = sector.split_at_mut(8);
        head.copy_from_slice(&epoch.to_le_bytes());
        rest.as_chunks_mut::<8>()
            .0
            .iter_mut()
            .for_each(|word| *word = random.random::<u64>().to_le_bytes());
    }

    /// Fills `bytes` with what epoch `epoch` writes from `block` on.
    pub(super) fn fill_blocks(&self, block: u64, epoch: u64, bytes: &mut [u8]) {
        let first = block * (BLOCK_BYTES / 512) as u64;
        for (number, sector) in (first..).zip(bytes.chunks_exact_mut(512)) {
            self.fill(number, epoch, sector);
        }
    }

    /// Returns what `bytes`, read from `block`, are.
    pub(super) fn content(&self, block: u64, bytes: &[u8]) -> Content {
        let first = block * (BLOCK_BYTES / 512) as u64;
        let mut epochs = BTreeSet::new();
        for (number, sector) in (first..).zip(bytes.chunks_exact(512)) {
            let mut expected = [0; 512];
            let mut epoch = [0; 8];
            epoch.copy_from_slice(&sector[..8]);
            let epoch = u64::from_le_bytes(epoch);
            if epoch > 0 {
                self.fill(number, epoch, &mut expected);
            }
            if sector != expected {
                return Content::Other;
            }
            epochs.insert(epoch);
        }
        match (epochs.pop_first(), epochs.pop_first(), epochs.len()) {
            (Some(0), None, _) => Content::Nothing,
            (Some(epoch), None, _) => Content::Of(epoch),
            (Some(older), Some(newer), 0) => Content::Torn(older, newer),
            _ => Content::Other,
        }
    }

    /// Returns the epochs up to `last` that write each block, in their order.
    pub(super) fn history(&self, last: u64) -> BTreeMap<u64, Vec<u64>> {
        let mut history: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for epoch in 1..=last {
            for block in self.extents(epoch).into_iter().flatten() {
                history.entry(block).or_default().push(epoch);
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        Writer {
            name: "a".to_owned(),
            first_block: 100,
            blocks: 2048,
            seed: 7,
        }
    }

    #[test]
    fn an_epoch_is_the_same_each_time_and_stays_within_its_blocks() {
        let extents = writer().extents(3);
        assert_eq!(extents, writer().extents(3));
        assert_ne!(extents, writer().extents(4));
        let blocks: Vec<u64> = extents.into_iter().flatten().collect();
        let distinct: BTreeSet<u64> = blocks.iter().copied().collect();
        assert_eq!(blocks.len(), distinct.len());
        assert!(
            distinct
                .iter()
                .all(|block| (100..100 + 2048).contains(block))
        );
    }

    #[test]
    fn contents_are_told_apart() {
        let writer = writer();
        let mut bytes = vec![0; BLOCK_BYTES];
        assert_eq!(writer.content(101, &bytes), Content::Nothing);
        writer.fill_blocks(101, 5, &mut bytes);
        assert_eq!(writer.content(101, &bytes), Content::Of(5));
        assert_eq!(writer.content(102, &bytes), Content::Other);
        let newer = {
            let mut newer = vec![0; BLOCK_BYTES];
            writer.fill_blocks(101, 6, &mut newer);
            newer
        };
        bytes[512..1024].copy_from_slice(&newer[512..1024]);
        assert_eq!(writer.content(101, &bytes), Content::Torn(5, 6));
        bytes[600] ^= 1;
        assert_eq!(writer.content(101, &bytes), Content::Other);
    }
}
