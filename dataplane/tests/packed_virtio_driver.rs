//! A virtio-blk driver that nobody here wrote, of the `virtio-driver` crate, over our workers: both
//! formats, with and without event indexes, polling and sleeping on either side.
//!
//! That crate makes no indirect tables and no use of IN_ORDER. It takes a used length that is not all of
//! a chain for a bug and panics, so nothing here fails on purpose.

#![allow(unsafe_code)]

mod common;
mod vhost_user;

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use common::{DISK_BYTES, PATIENCE, Wires, options, pattern, ram, service, thread};
use pollux_dataplane::backend::Backend;
use pollux_dataplane::driver::DriverMemory;
use pollux_dataplane::mem::Iova;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::{
    Command, Home, PollMode, ServiceConfig, Worker, WorkerConfig, spawn,
};
use vhost_user::BackEnd;
use virtio_driver::{VhostUser, VirtioBlkQueue, VirtioBlkTransport};

const BLOCK: usize = 4096;
const BLOCKS: u64 = DISK_BYTES / BLOCK as u64;

/// Feature bit VIRTIO_F_VERSION_1.
const VERSION_1: u64 = 1 << 32;

/// How the driver learns of completions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Poll,
    Interrupt,
}

/// The driver and what it drives.
struct Foreign {
    queue: VirtioBlkQueue<'static, u64>,
    /// The queue is in its memory.
    transport: Box<VirtioBlkTransport>,
    back_end: BackEnd,
    data: DriverMemory,
    blocks: Vec<Iova>,
    worker: Worker,
    wires: Wires,
    wait: Wait,
}

impl Foreign {
    fn new(features: RingFeatures, mode: PollMode, wait: Wait, size: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let wanted = features.bits() | VERSION_1;
        let listener = UnixListener::bind(&socket).unwrap();
        let back_end = BackEnd::start(listener, wanted);
        let transport = VhostUser::new(socket.to_str().unwrap(), wanted).unwrap();
        let mut transport: Box<VirtioBlkTransport> = Box::new(transport);
        assert_eq!(transport.get_features() & wanted, wanted);

        let depth = usize::from(size);
        let mut data = DriverMemory::new((depth * BLOCK) as u64).unwrap();
        let (file, first, bytes) = data.file().unwrap();
        let start = data.at(first, bytes).as_ptr() as usize;
        transport
            .map_mem_region(start, bytes as usize, file.as_raw_fd(), 0)
            .unwrap();
        let block = |_| data.allocate(BLOCK as u64, 512);
        let blocks = (0..depth).map(block).collect();

        let queues = VirtioBlkQueue::setup_queues(&mut *transport, 1, size).unwrap();
        let backend = ram();
        let wires = Wires::default();
        let config = WorkerConfig {
            home: Home::Own(thread(mode)),
            service: ServiceConfig {
                interrupt_hold: Duration::ZERO,
                ..service(&options().geometry().unwrap())
            },
        };
        let worker = spawn(config, backend.open_queue().unwrap(), wires.clone()).unwrap();
        let start = Command::Start(Box::new(back_end.queue()));
        let number = worker.mailbox.post(start).unwrap();
        worker
            .mailbox
            .wait(number, Instant::now() + PATIENCE)
            .unwrap();
        Self {
            queue: queues.into_iter().next().unwrap(),
            transport,
            back_end,
            data,
            blocks,
            worker,
            wires,
            wait,
        }
    }

    /// Submits a read or write of each of the blocks in `numbers`, one batch.
    fn submit(&mut self, numbers: &[u64], reads: bool) {
        for (&number, &buffer) in numbers.iter().zip(&self.blocks) {
            let at = number * BLOCK as u64;
            let memory = self.data.at(buffer, BLOCK as u64).as_ptr();
            // SAFETY: `data` outlives the requests, which `complete` waits for, and is only copied in and out.
            let submitted = unsafe {
                match reads {
                    true => self.queue.read_raw(at, memory, BLOCK, number),
                    false => self.queue.write_raw(at, memory, BLOCK, number),
                }
            };
            submitted.unwrap();
        }
        if self.queue.avail_notif_needed() {
            self.wires.kick();
        }
    }

    /// Waits for the completions of `numbers`, each once.
    fn complete(&mut self, numbers: &[u64]) {
        let deadline = Instant::now() + PATIENCE;
        let mut missing = numbers.to_vec();
        loop {
            for completion in self.queue.completions() {
                assert_eq!(completion.ret, 0);
                let place = missing.iter().position(|&it| it == completion.context);
                missing.swap_remove(place.expect("submitted and not completed"));
            }
            if missing.is_empty() {
                return;
            }
            if self.wait == Wait::Interrupt {
                let before = self.wires.interrupts();
                self.queue.set_used_notif_enabled(true);
                // What came before the device saw the request for an interrupt is told by the ring.
                while !self.queue.completions().has_next() && self.wires.interrupts() == before {
                    assert!(Instant::now() < deadline, "no interrupt");
                    std::thread::yield_now();
                }
                self.queue.set_used_notif_enabled(false);
            }
            assert!(Instant::now() < deadline, "{} are missing", missing.len());
            std::thread::yield_now();
        }
    }

    /// Writes and reads back batches of every size that the queue has room for. Returns how many requests
    /// that was.
    fn exercise(&mut self, batches: u64, batch_max: u64) -> u64 {
        let mut requests = 0;
        for batch in 0..batches {
            let count = 1 + batch % batch_max;
            let numbers: Vec<u64> = (0..count)
                .map(|place| (batch * 37 + place * 5) % BLOCKS)
                .collect();
            let expected = |number: u64| pattern(batch * BLOCKS + number, BLOCK);
            for (&number, &buffer) in numbers.iter().zip(&self.blocks) {
                self.data.write(buffer, &expected(number));
            }
            self.submit(&numbers, false);
            self.complete(&numbers);
            for &buffer in &self.blocks {
                self.data.write(buffer, &[0; BLOCK]);
            }
            self.submit(&numbers, true);
            self.complete(&numbers);
            for (&number, &buffer) in numbers.iter().zip(&self.blocks) {
                let found = self.data.read(buffer, BLOCK);
                assert!(found == expected(number), "block {number}");
            }
            requests += 2 * count;
        }
        requests
    }

    fn end(self, requests: u64) {
        assert_eq!(self.worker.fault.load(), None);
        assert_eq!(self.worker.counters.requests.get(), requests);
        assert_eq!(self.worker.counters.errors.get(), 0);
        self.worker.mailbox.post(Command::Exit).unwrap();
        assert!(self.worker.host.join());
        drop(self.queue);
        drop(self.transport);
        self.back_end.end();
    }
}

/// Serves a few thousand requests in each mode of either side.
fn serve(features: RingFeatures) {
    let adaptive = PollMode::Adaptive(Duration::from_micros(20));
    for mode in [PollMode::Busy, adaptive, PollMode::Event] {
        for wait in [Wait::Poll, Wait::Interrupt] {
            // Three descriptors a request: 5 of them fill a ring of 16, with one slot left over, so each
            // lap begins elsewhere.
            let mut driver = Foreign::new(features, mode, wait, 16);
            let requests = driver.exercise(200, 5);
            assert!(requests * 3 > 100 * 16, "a hundred laps");
            if mode == PollMode::Busy {
                assert_eq!(driver.worker.counters.kicks.get(), 0);
            }
            if wait == Wait::Interrupt {
                assert!(driver.wires.interrupts() > 0, "{mode:?}");
            }
            driver.end(requests);
        }
    }
}

#[test]
fn a_packed_queue_is_served() {
    serve(RingFeatures::RING_PACKED);
}

#[test]
fn a_packed_queue_with_event_indexes_is_served() {
    serve(RingFeatures::RING_PACKED | RingFeatures::EVENT_IDX);
}

#[test]
fn a_split_queue_is_served() {
    serve(RingFeatures::empty());
}

#[test]
fn a_split_queue_with_event_indexes_is_served() {
    serve(RingFeatures::EVENT_IDX);
}
