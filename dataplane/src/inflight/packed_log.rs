//! The log of a packed virtqueue. The order of its stores is in the module's documentation.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::queue_log::ENTRIES_AT;
use crate::limits::PASS_REQUESTS_MAX;
use crate::mem::{Direction, Iova, RegionTable, SharedArray, SharedCell, TranslateError};
use crate::ring::{Descriptor, RingState, TakenChain, UsedDescriptor};

/// Bytes before the used descriptors of a batch.
const BATCH_HEADER_BYTES: u64 = 16;

/// What one worker writes down of a packed virtqueue.
#[derive(Debug)]
pub(super) struct PackedLog {
    /// The number of the last batch; it is in `batches[number % 2]`.
    committed: SharedCell<AtomicU64>,
    batches: [Batch; 2],
    /// For each buffer ID the number of the chain that the backend keeps, or 0.
    entries: SharedArray<AtomicU64>,
    /// For each of those: where its first descriptor is, and above 16 bits how many there are.
    chains: SharedArray<AtomicU32>,
    /// Their descriptors, linked as in a split ring.
    descriptors: SharedArray<[AtomicU64; 2]>,
    size: u16,
    batch: u64,
    /// The number of the last chain.
    number: u64,
    /// Places for descriptors.
    free: Vec<u16>,
    /// IDs returned with the last batch, of chains that the backend kept.
    returned: Vec<u16>,
}

/// What is published at once.
#[derive(Debug)]
struct Batch {
    /// The number of the last chain before it.
    number: SharedCell<AtomicU64>,
    /// How far the ring is with it, and above 32 bits how many used descriptors there are.
    state: SharedCell<AtomicU64>,
    /// The place and the second word of each.
    used: SharedArray<[AtomicU64; 2]>,
}

/// Where a worker that was killed left a packed virtqueue.
#[derive(Debug)]
pub(super) struct Recovered {
    /// How far it got.
    pub state: RingState,
    /// What it was about to publish, or had just published.
    pub used: Vec<UsedDescriptor>,
    /// What it had taken and not returned, oldest first.
    pub in_flight: Vec<TakenChain>,
}

/// Returns the used descriptors that are published at once, at most.
fn batch_entries(size: u16) -> u16 {
    size.max(PASS_REQUESTS_MAX as u16)
}

/// Returns the bytes of a batch.
fn batch_bytes(size: u16) -> u64 {
    BATCH_HEADER_BYTES + 16 * u64::from(batch_entries(size))
}

/// Returns the bytes of an area, up to where this log ends in it.
pub(super) fn area_bytes(size: u16) -> u64 {
    chains_at(size) + 4 * u64::from(size)
}

fn batches_at(size: u16) -> u64 {
    (ENTRIES_AT + 8 * u64::from(size)).next_multiple_of(16)
}

fn descriptors_at(size: u16) -> u64 {
    batches_at(size) + 2 * batch_bytes(size)
}

fn chains_at(size: u16) -> u64 {
    descriptors_at(size) + 16 * u64::from(size)
}

impl PackedLog {
    pub(super) fn new(memory: &RegionTable, area: Iova, size: u16) -> Result<Self, TranslateError> {
        let at = |offset| Iova(area.0 + offset);
        let way = Direction::Writable;
        let batch = |index| -> Result<Batch, TranslateError> {
            let start = batches_at(size) + index * batch_bytes(size);
            Ok(Batch {
                number: memory.cell(at(start), way)?,
                state: memory.cell(at(start + 8), way)?,
                used: memory.array(at(start + BATCH_HEADER_BYTES), batch_entries(size), way)?,
            })
        };
        Ok(Self {
            committed: memory.cell(at(8), way)?,
            batches: [batch(0)?, batch(1)?],
            entries: memory.array(at(ENTRIES_AT), size, way)?,
            chains: memory.array(at(chains_at(size)), size, way)?,
            descriptors: memory.array(at(descriptors_at(size)), size, way)?,
            size,
            batch: 0,
            number: 0,
            free: (0..size).collect(),
            returned: Vec::with_capacity(usize::from(batch_entries(size))),
        })
    }

    pub(super) fn clear(&mut self) {
        self.number = 0;
        self.free.clear();
        self.free.extend(0..self.size);
        self.returned.clear();
    }

    /// Begins with nothing in flight in a ring at `state`.
    pub(super) fn begin(&mut self, state: RingState) {
        self.commit(state, &[]);
    }

    /// Notes that the backend keeps the chain `id` of `descriptors`. A driver with more of them
    /// outstanding than its ring holds broke the rules: what has no room here is not taken again.
    pub(super) fn keep(&mut self, id: u16, descriptors: impl ExactSizeIterator<Item = Descriptor>) {
        let count = descriptors.len();
        let Some(left) = self.free.len().checked_sub(count) else {
            return;
        };
        let places = &self.free[left..];
        let links = places.iter().skip(1).chain([&id]);
        for ((&place, &link), descriptor) in places.iter().zip(links).zip(descriptors) {
            let [address, rest] = self.descriptors.at(place);
            let words = descriptor.to_split(link);
            store!(address, words[0]);
            store!(rest, words[1]);
        }
        let first = places.first().copied().unwrap_or_default();
        let chain = u32::from(first) | (count as u32) << 16;
        self.number += 1;
        store!(self.chains.at(id), chain);
        store!(self.entries.at(id), self.number);
        self.free.truncate(left);
    }

    /// Notes that `used` goes to the driver, and that the ring is at `state` then.
    #[inline]
    pub(super) fn commit(&mut self, state: RingState, used: &[UsedDescriptor]) {
        self.batch += 1;
        let batch = &self.batches[self.batch as usize % 2];
        store!(batch.number, self.number);
        let positions = u64::from(state.next_avail) | u64::from(state.next_used) << 16;
        store!(batch.state, positions | (used.len() as u64) << 32);
        for (index, descriptor) in (0..).zip(used) {
            let [slot, rest] = batch.used.at(index);
            store!(slot, u64::from(descriptor.slot));
            store!(rest, descriptor.rest);
        }
        if self.free.len() < usize::from(self.size) {
            let ids = used.iter().map(|used| used.buffer_id());
            self.returned.extend(ids);
        }
        store!(self.committed, self.batch);
    }

    /// Notes that what was committed is visible to the driver.
    #[inline]
    pub(super) fn published(&mut self) {
        while let Some(id) = self.returned.pop() {
            self.forget(id);
        }
    }

    /// Forgets the chain `id`, if the backend kept it.
    fn forget(&mut self, id: u16) {
        if self.entries.at(id).load(Ordering::Acquire) == 0 {
            return;
        }
        store!(self.entries.at(id), 0);
        let (mut place, count) = self.chain(id);
        for _ in 0..count {
            self.free.push(place);
            place = self.descriptor(place).buffer_id() % self.size;
        }
    }

    /// Returns the place of the first descriptor of the chain `id`, and how many there are.
    fn chain(&self, id: u16) -> (u16, u16) {
        let chain = self.chains.at(id).load(Ordering::Acquire);
        let count = (chain >> 16).min(u32::from(self.size)) as u16;
        (chain as u16 % self.size, count)
    }

    fn descriptor(&self, place: u16) -> Descriptor {
        let [address, rest] = self.descriptors.at(place);
        Descriptor::from_split(
            address.load(Ordering::Acquire),
            rest.load(Ordering::Acquire),
        )
    }

    /// Returns a copy of the chain `id`, whose places are not free any more.
    fn taken(&mut self, id: u16) -> TakenChain {
        let (mut place, count) = self.chain(id);
        let mut descriptors = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let descriptor = self.descriptor(place);
            self.free.retain(|&free| free != place);
            descriptors.push(descriptor);
            place = descriptor.buffer_id() % self.size;
        }
        TakenChain { id, descriptors }
    }

    /// Goes on after a worker that was killed. Returns where it left the queue.
    pub(super) fn recover(&mut self) -> Recovered {
        self.clear();
        self.batch = self.committed.load(Ordering::Acquire);
        let batch = &self.batches[self.batch as usize % 2];
        self.number = batch.number.load(Ordering::Acquire);
        let state = batch.state.load(Ordering::Acquire);
        let count = (state >> 32).min(u64::from(batch_entries(self.size))) as u16;
        let used = (0..count).map(|index| {
            let [slot, rest] = batch.used.at(index);
            UsedDescriptor {
                slot: slot.load(Ordering::Acquire) as u16,
                rest: rest.load(Ordering::Acquire),
            }
        });
        let used: Vec<UsedDescriptor> = used.collect();
        for returned in &used {
            store!(self.entries.at(returned.buffer_id()), 0);
        }
        let mut ids = Vec::new();
        for id in 0..self.size {
            match self.entries.at(id).load(Ordering::Acquire) {
                0 => {}
                // The ring has it: it was taken after the last batch.
                number if number > self.number => {
                    store!(self.entries.at(id), 0);
                }
                number => ids.push((number, id)),
            }
        }
        ids.sort_unstable();
        let in_flight = ids.into_iter().map(|(_, id)| self.taken(id)).collect();
        Recovered {
            state: RingState {
                next_avail: state as u16,
                next_used: (state >> 16) as u16,
            },
            used,
            in_flight,
        }
    }
}
