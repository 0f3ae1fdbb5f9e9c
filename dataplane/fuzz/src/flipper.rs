//! A second thread that writes into the driver's memory while the device works: what a driver on another
//! CPU can do between two reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};

use pollux_dataplane::mem::{Direction, Iova, RegionTable, Segment};

use crate::random::Random;

/// Words of the rings; tables and requests follow.
const RINGS_WORDS: usize = crate::hostile::RINGS_BYTES as usize / 8;

/// Turns between two writes.
const PAUSE: u32 = 64;

#[derive(Debug, Default)]
struct Orders {
    /// 0 for none.
    seed: AtomicU64,
    bytes: AtomicU64,
    is_flipping: AtomicBool,
}

/// The thread. It lives as long as the process.
#[derive(Debug)]
pub(crate) struct Flipper {
    orders: Arc<Orders>,
    thread: Thread,
}

impl Flipper {
    /// Starts a thread that can write to the memory of `table` from `first` on.
    pub(crate) fn new(table: Arc<RegionTable>, first: Iova) -> Self {
        let orders = Arc::new(Orders::default());
        let its_orders = Arc::clone(&orders);
        let handle: JoinHandle<()> = std::thread::spawn(move || {
            loop {
                match its_orders.seed.load(Ordering::Acquire) {
                    0 => {
                        its_orders.is_flipping.store(false, Ordering::Release);
                        std::thread::park();
                    }
                    seed => {
                        its_orders.is_flipping.store(true, Ordering::Release);
                        flip(&its_orders, seed, &table, first);
                    }
                }
            }
        });
        let thread = handle.thread().clone();
        Self { orders, thread }
    }

    /// Has the first `bytes` bytes change from now on.
    pub(crate) fn start(&self, seed: u64, bytes: u64) {
        self.orders.bytes.store(bytes, Ordering::Relaxed);
        self.orders.seed.store(seed.max(1), Ordering::Release);
        self.thread.unpark();
        self.wait_until(true);
    }

    /// Has nothing change any more.
    pub(crate) fn stop(&self) {
        self.orders.seed.store(0, Ordering::Release);
        self.wait_until(false);
    }

    fn wait_until(&self, is_flipping: bool) {
        while self.orders.is_flipping.load(Ordering::Acquire) != is_flipping {
            std::thread::yield_now();
        }
    }
}

fn flip(orders: &Orders, seed: u64, table: &RegionTable, first: Iova) {
    let mut random = Random::new(seed);
    let bytes = orders.bytes.load(Ordering::Relaxed);
    let memory = table.segment(first, bytes, Direction::Writable);
    let memory = memory.expect("the first region");
    while orders.seed.load(Ordering::Relaxed) == seed {
        scribble(memory, &mut random);
        (0..PAUSE).for_each(|_| std::hint::spin_loop());
    }
}

/// Changes one thing in `memory`, which begins with the rings: an address, or one of the fields that share
/// a word.
pub(crate) fn scribble(memory: Segment<'_>, random: &mut Random) {
    let words = memory.len() / 8;
    let words = match random.below(4) {
        0 => words,
        _ => words.min(RINGS_WORDS),
    };
    let word = memory.skip(8 * random.below(words)).first(8);
    let value = random.next();
    let place = random.below(8);
    match random.below(4) {
        0 => word.copy_from(&value.to_le_bytes()),
        1 => word
            .skip(place & 6)
            .copy_from(&(value as u16 & 0x3f).to_le_bytes()),
        2 => word
            .skip(place & 6)
            .copy_from(&(value as u16).to_le_bytes()),
        _ => word.skip(place).copy_from(&[value as u8 & 0x87]),
    };
}
