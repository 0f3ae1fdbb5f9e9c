//! Plays an input.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pollux_dataplane::blk::{Geometry, SERIAL_BYTES};
use pollux_dataplane::driver::QueueDriver;
use pollux_dataplane::limits::PASS_REQUESTS_MAX;
use pollux_dataplane::mem::{Iova, RegionTable};
use pollux_dataplane::ring::{QueueConfig, RingFeatures};
use pollux_dataplane::stats::{LatencyRecorder, QueueCounters};
use pollux_dataplane::worker::{Poller, Progress, QueueSetup, Records};

use crate::backend::FuzzQueue;
use crate::flipper::Flipper;
use crate::hostile::{Rings, misplace};
use crate::input::{Action, Input, Setup};
use crate::memory::Memory;
use crate::random::Random;
use crate::requests::{CAPACITY_SECTORS, Requests};

/// Passes of one action, at most.
const PASSES_MAX: u8 = 4;

/// Inputs with this many flips use the second thread, the first run of so many: they take their time, and
/// since each run differs, a fuzzer finds more in them than there is.
const FLIPS_FROM: u8 = 240;
const RUNS_A_FLIP: u32 = 16;

/// The format of the virtqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// VIRTIO 1.3, 2.7.
    Split,
    /// VIRTIO 1.3, 2.8.
    Packed,
}

/// What all cases use, one after the other.
struct Stage {
    memory: Memory,
    flipper: Option<Flipper>,
    /// Runs that could have used the flipper, modulo those for which it stays away.
    runs_to_flip: u32,
    counters: QueueCounters,
    latency: LatencyRecorder,
    geometry: Geometry,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage::new());
}

impl Stage {
    fn new() -> Self {
        Self {
            memory: Memory::new(),
            flipper: None,
            runs_to_flip: 0,
            counters: QueueCounters::default(),
            latency: LatencyRecorder::new(quanta::Clock::new(), NonZeroU32::MIN),
            geometry: Geometry {
                capacity_sectors: CAPACITY_SECTORS,
                block_bytes: 512,
                physical_block_exponent: 0,
                optimal_io_blocks: 0,
                read_only: false,
                volatile_cache: true,
                discard_sectors_max: 64,
                write_zeroes_sectors_max: 64,
                write_zeroes_may_unmap: true,
                secure_erase_sectors_max: 64,
                serial: [b's'; SERIAL_BYTES],
            },
        }
    }
}

/// Plays `input` with a queue of `format`.
///
/// # Panics
///
/// When the device side does what it must not.
pub fn play(format: Format, input: &Input) {
    STAGE.with_borrow_mut(|stage| {
        stage.memory.clear();
        let Some(mut play) = Play::new(stage, format, input.setup) else {
            return;
        };
        play.flip(input.setup);
        for &action in &input.actions {
            if play.act(action).is_none() {
                break;
            }
        }
        play.finish();
    });
}

/// A case.
struct Play<'stage> {
    stage: &'stage mut Stage,
    queue: QueueDriver,
    requests: Requests,
    backend: FuzzQueue,
    /// Taken out while the memory map changes.
    poller: Option<Poller>,
    setup: QueueConfig,
    /// What the driver has allocated.
    rings: (Iova, u64),
    /// The driver has kept to the rules.
    is_honest: bool,
    /// Nothing that the backend accepted was abandoned.
    is_reliable: bool,
    is_flipping: bool,
    /// Added and not published.
    added: usize,
    /// The device asked to be kicked for the next chain.
    awaits_kick: bool,
    /// The driver asked for an interrupt at the next completion.
    awaits_interrupt: bool,
    /// It was told.
    interrupted: bool,
}

impl<'stage> Play<'stage> {
    /// Returns `None` when the device refuses the queue.
    fn new(stage: &'stage mut Stage, format: Format, setup: Setup) -> Option<Self> {
        let size = 4 << (setup.size % 5);
        let mut features = RingFeatures::empty();
        let optional = [
            RingFeatures::INDIRECT_DESC,
            RingFeatures::EVENT_IDX,
            RingFeatures::IN_ORDER,
        ];
        for (bit, feature) in optional.into_iter().enumerate() {
            features.set(feature, setup.features >> bit & 1 == 1);
        }
        features.set(RingFeatures::RING_PACKED, format == Format::Packed);
        let driver = &mut stage.memory.driver;
        let queue = QueueDriver::starting_at(driver, size, features, setup.start);
        let requests = Requests::new(driver, size);
        let first = stage.memory.first();
        let end = stage.memory.driver.allocate(0, 8);
        let rings = (first, end.0 - first.0);
        let mut backend = FuzzQueue::new(
            &stage.geometry,
            1 + usize::from(setup.depth) % 64,
            setup.completions,
            setup.mischief,
            rings,
            Random::new(u64::from(setup.seed)),
        );
        let (table, is_whole) = stage.memory.map(setup.map);
        let config = misplace(queue.config(), setup.misplaced);
        let is_honest = is_whole && setup.mischief == 0 && config == queue.config();
        let poller = start(config, &table)?;
        backend.is_honest = is_honest;
        backend.serve(&table);
        let is_reliable = backend.is_reliable();
        Some(Self {
            stage,
            queue,
            requests,
            backend,
            poller: Some(poller),
            setup: config,
            rings,
            is_honest,
            is_reliable,
            is_flipping: false,
            added: 0,
            awaits_kick: false,
            awaits_interrupt: false,
            interrupted: false,
        })
    }

    /// Has a second thread write into the rings, if the input says so.
    fn flip(&mut self, setup: Setup) {
        if setup.flips < FLIPS_FROM {
            return;
        }
        self.break_rules();
        self.stage.runs_to_flip = self.stage.runs_to_flip.wrapping_add(1) % RUNS_A_FLIP;
        if self.stage.runs_to_flip != 1 {
            return;
        }
        self.is_flipping = true;
        let (first, bytes) = self.rings;
        let Stage {
            flipper, memory, ..
        } = &mut *self.stage;
        let flipper = flipper.get_or_insert_with(|| {
            let (table, _) = memory.map(0);
            Flipper::new(table, first)
        });
        flipper.start(u64::from(setup.seed) + 1, bytes);
    }

    /// The driver does what it must not: nothing is expected for it any more.
    fn break_rules(&mut self) {
        self.is_honest = false;
        self.backend.is_honest = false;
    }

    /// Returns `None` when the queue cannot be served any more.
    fn act(&mut self, action: Action) -> Option<()> {
        match action {
            Action::Request {
                kind,
                sector,
                data,
                place,
            } => {
                let chosen = [kind, sector, data, place];
                let memory = &self.stage.memory;
                let was_added = self.requests.add(memory, &mut self.queue, chosen);
                self.added += usize::from(was_added);
            }
            Action::Publish => self.publish(),
            Action::Pass(count) => (0..=count % PASSES_MAX).for_each(|_| {
                self.pass();
            }),
            Action::Finish { place, outcome } => self.backend.finish(place, outcome),
            Action::Reap(count) => (0..=count % 64).for_each(|_| self.reap()),
            Action::Interrupts(how) => self.interrupts(how & 1 == 0),
            Action::Kicks(how) => self.kicks(how & 1 == 0),
            Action::Restart { patience, map } => return self.restart(patience, map),
            _ => {
                self.break_rules();
                self.act_hostile(action);
            }
        }
        Some(())
    }

    fn publish(&mut self) {
        self.queue.publish();
        let kicks = self.queue.kick_wanted();
        if self.awaits_kick && self.added > 0 {
            assert!(kicks || !self.is_honest, "the device sleeps on");
            self.awaits_kick = false;
        }
        self.added = 0;
    }

    /// Does one pass of the device. Returns whether it did something.
    fn pass(&mut self) -> bool {
        let Stage {
            geometry,
            counters,
            latency,
            ..
        } = &mut *self.stage;
        let mut records = Records {
            counters,
            latency,
            in_flight: None,
        };
        let Some(poller) = &mut self.poller else {
            return false;
        };
        let progress = poller.poll_once(&mut self.backend, geometry, &mut records);
        self.tell();
        match progress {
            Progress::Idle => false,
            Progress::Busy(moved) => {
                assert!(moved <= 2 * PASS_REQUESTS_MAX, "{moved} in one pass");
                true
            }
        }
    }

    /// Interrupts the driver if it asked for that.
    fn tell(&mut self) {
        let Some(poller) = &mut self.poller else {
            return;
        };
        if poller.interrupt_wanted().is_some() {
            self.interrupted = true;
        }
        poller.interrupt_settled();
    }

    fn reap(&mut self) {
        let Some(used) = self.queue.poll() else {
            return;
        };
        if self.awaits_interrupt {
            assert!(self.interrupted || !self.is_honest, "the driver sleeps on");
            self.awaits_interrupt = false;
        }
        let (memory, check) = (&self.stage.memory, self.is_honest);
        self.requests
            .take_back(memory, used, check, self.is_reliable);
    }

    fn interrupts(&mut self, wanted: bool) {
        self.interrupted = false;
        if wanted {
            let is_waiting = self.queue.request_interrupt();
            self.awaits_interrupt = !is_waiting;
        } else {
            self.queue.suppress_interrupts();
            self.awaits_interrupt = false;
        }
    }

    fn kicks(&mut self, wanted: bool) {
        let Some(poller) = &mut self.poller else {
            return;
        };
        if wanted {
            let is_waiting = poller.request_kick();
            assert!(is_waiting.is_ok() || !self.is_honest, "{is_waiting:?}");
            self.awaits_kick = is_waiting == Ok(false);
        } else {
            poller.suppress_kicks();
            self.awaits_kick = false;
        }
    }

    /// Stops the device; another one goes on where it was, with the memory map that `choice` says.
    fn restart(&mut self, patience: u8, choice: u8) -> Option<()> {
        self.backend.is_patient = patience & 1 == 1;
        let time = Duration::from_secs(u64::from(patience & 1));
        self.drain(time);
        self.backend.is_patient = false;
        self.awaits_kick = false;
        let (table, is_whole) = self.stage.memory.map(choice);
        if !is_whole {
            self.break_rules();
        }
        self.backend.serve(&table);
        self.poller = Some(start(self.setup, &table)?);
        Some(())
    }

    /// Drains the device and takes it away.
    fn drain(&mut self, time: Duration) {
        let Stage {
            counters, latency, ..
        } = &mut *self.stage;
        let mut records = Records {
            counters,
            latency,
            in_flight: None,
        };
        let Some(poller) = &mut self.poller else {
            return;
        };
        let in_flight = poller.in_flight();
        let report = poller.drain(&mut self.backend, time, &mut records);
        assert!(report.abandoned <= in_flight);
        assert_eq!(poller.in_flight(), 0);
        self.is_reliable &= report.abandoned == 0;
        self.setup = self.setup.at(report.state.expect("a queue was served"));
        self.tell();
        self.poller = None;
    }

    fn act_hostile(&mut self, action: Action) {
        self.added += usize::from(matches!(action, Action::Offer { .. }));
        let rings = Rings {
            memory: &self.stage.memory,
            requests: &self.requests,
            driver_area: self.setup.driver_area,
            whole: self.rings,
        };
        rings.act(&mut self.queue, action);
    }

    /// Everything comes to its end: with a driver that kept to the rules, well.
    fn finish(mut self) {
        if self.is_flipping
            && let Some(flipper) = &self.stage.flipper
        {
            flipper.stop();
        }
        self.publish();
        let passes_max = 16 + 8 * usize::from(self.setup.size);
        let mut passes = 0;
        loop {
            self.backend.finish_all();
            if !self.pass() {
                break;
            }
            passes += 1;
            // A packed ring can be written so that its chains have no end.
            assert!(passes < passes_max || !self.is_honest, "no end");
            if passes == passes_max {
                break;
            }
        }
        (0..2 * self.setup.size).for_each(|_| self.reap());
        if self.is_honest {
            assert_eq!(self.requests.lent(), 0, "a request was lost");
        }
        self.drain(Duration::ZERO);
    }
}

/// Starts to serve the queue in `config`.
fn start(config: QueueConfig, table: &Arc<RegionTable>) -> Option<Poller> {
    let setup = QueueSetup {
        queue: config,
        table: Arc::clone(table),
        write_through: false,
    };
    Poller::new(&setup).ok()
}
