//! A disk under test: a driver, a worker and a backend in one process.

#![allow(dead_code, unreachable_pub)]

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pollux_dataplane::backend::{Backend, BackendQueue, DiskOptions, Ram, RamMemory};
use pollux_dataplane::blk::Geometry;
use pollux_dataplane::driver::{BlockDriver, Completed};
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::ring::RingState;
use pollux_dataplane::worker::{
    Answer, Command, Home, Notifier, PollMode, QueueSetup, Report, ServiceConfig, SharedThread,
    ThreadConfig, Worker, WorkerConfig, spawn,
};

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Both notifications, as eventfds: what VDUSE does in the kernel.
#[derive(Clone, Default)]
pub struct Wires(Arc<Mutex<WireState>>);

#[derive(Default)]
struct WireState {
    interrupts: u64,
    kick: Option<OwnedFd>,
}

impl Notifier for Wires {
    fn interrupt(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().interrupts += 1;
        Ok(())
    }

    fn listen(&mut self, kick: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.0.lock().unwrap().kick = kick.map(|fd| fd.try_clone_to_owned()).transpose()?;
        Ok(())
    }
}

impl Wires {
    /// Kicks the device, as VDUSE would: into the eventfd if there is one.
    pub fn kick(&self) -> bool {
        let state = self.0.lock().unwrap();
        if let Some(kick) = &state.kick {
            nix::unistd::write(kick, &1_u64.to_ne_bytes()).unwrap();
        }
        state.kick.is_some()
    }

    pub fn interrupts(&self) -> u64 {
        self.0.lock().unwrap().interrupts
    }
}

/// A thread that waits in `mode`.
pub fn thread(mode: PollMode) -> ThreadConfig {
    ThreadConfig {
        name: "test".into(),
        cpu: None,
        mode,
        confinement: None,
    }
}

/// How queues of a disk like `geometry` are served.
pub fn service(geometry: &Geometry) -> ServiceConfig {
    ServiceConfig {
        interrupt_hold: Duration::from_micros(100),
        latency_sample: NonZeroU32::MIN,
        geometry: geometry.clone(),
        in_flight: None,
        woken: None,
    }
}

/// A served queue.
pub struct Rig {
    pub driver: BlockDriver,
    pub worker: Worker,
    pub wires: Wires,
    /// Told when the worker wakes that was watched.
    pub woken: Arc<EventFd>,
}

impl Rig {
    pub fn new<Q: BackendQueue + 'static>(
        backend: &impl Backend<Queue = Q>,
        mode: PollMode,
        driver: BlockDriver,
    ) -> Self {
        Self::at(Home::Own(thread(mode)), backend, driver)
    }

    /// On a thread that it shares.
    pub fn on<Q: BackendQueue + 'static>(
        thread: &SharedThread,
        backend: &impl Backend<Queue = Q>,
        driver: BlockDriver,
    ) -> Self {
        Self::at(Home::Shared(thread), backend, driver)
    }

    fn at<Q: BackendQueue + 'static>(
        home: Home<'_>,
        backend: &impl Backend<Queue = Q>,
        driver: BlockDriver,
    ) -> Self {
        let wires = Wires::default();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let woken = Arc::new(EventFd::from_flags(flags).unwrap());
        let service = ServiceConfig {
            woken: Some(Arc::clone(&woken)),
            ..service(backend.geometry())
        };
        let queue = backend.open_queue().unwrap();
        let worker = spawn(WorkerConfig { home, service }, queue, wires.clone()).unwrap();
        let mut rig = Self {
            driver,
            worker,
            wires,
            woken,
        };
        rig.start();
        rig
    }

    pub fn ram(mode: PollMode) -> Self {
        let driver = BlockDriver::new(
            64,
            1 << 16,
            RingFeatures::INDIRECT_DESC | RingFeatures::EVENT_IDX,
        )
        .unwrap();
        Self::new(&ram(), mode, driver)
    }

    pub fn start(&mut self) {
        let queue = self.driver.queue.config();
        let table = self.driver.memory().table();
        let answer = self.ask(Command::Start(Box::new(QueueSetup {
            queue,
            table,
            write_through: false,
        })));
        assert!(matches!(answer, Answer::Started(Ok(_))), "{answer:?}");
    }

    pub fn stop(&self) -> Report {
        match self.ask(Command::Stop) {
            Answer::Stopped(report) => report,
            other => panic!("{other:?}"),
        }
    }

    pub fn ask(&self, command: Command) -> Answer {
        let number = self.worker.mailbox.post(command).unwrap();
        self.worker
            .mailbox
            .wait(number, Instant::now() + PATIENCE)
            .unwrap()
    }

    /// Publishes what was added and kicks if the device wants that.
    pub fn publish(&mut self) {
        self.driver.queue.publish();
        if self.driver.queue.kick_wanted() {
            self.wires.kick();
        }
    }

    /// Waits for one completion.
    pub fn wait(&mut self) -> Completed {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(completed) = self.driver.complete() {
                return completed;
            }
            assert!(Instant::now() < deadline, "a request was not completed");
            std::thread::yield_now();
        }
    }

    /// Waits until `condition` holds.
    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what} did not happen");
            std::thread::yield_now();
        }
    }

    pub fn request(&mut self, kind: u32, sector: u64, out: &[u8], in_bytes: u32) -> Completed {
        self.driver.submit(kind, sector, out, in_bytes).unwrap();
        self.publish();
        self.wait()
    }

    pub fn write(&mut self, sector: u64, data: &[u8]) -> u8 {
        self.driver.write(sector, data).unwrap();
        self.publish();
        self.wait().status
    }

    pub fn read(&mut self, sector: u64, bytes: u32) -> Completed {
        self.driver.read(sector, bytes).unwrap();
        self.publish();
        self.wait()
    }

    /// Ends the worker.
    pub fn end(self) {
        self.worker.mailbox.post(Command::Exit).unwrap();
        assert!(self.worker.host.join());
    }
}

/// A split queue of which this many chains were taken and returned.
pub fn at(index: u16) -> Option<RingState> {
    Some(RingState {
        next_avail: index,
        next_used: index,
    })
}

pub const DISK_BYTES: u64 = 1 << 20;

pub fn options() -> DiskOptions {
    DiskOptions {
        size_bytes: DISK_BYTES,
        serial: "serial-of-the-test".into(),
        ..Default::default()
    }
}

pub fn ram() -> Ram {
    Ram::new(&options(), &RamMemory::Sparse, false).unwrap()
}

/// Returns `bytes` bytes that differ from place to place and from `seed` to `seed`.
pub fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}
