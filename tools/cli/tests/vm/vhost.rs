//! A driver over `/dev/vhost-vdpa-N`, down to the single descriptor: what a guest could do, and what a
//! malicious one would.

mod kernel;
mod memory;
mod queue;

use std::os::fd::OwnedFd;
use std::path::Path;

pub(crate) use kernel::{DRIVER_OK, FEATURES_OK, Kernel};
pub(crate) use memory::SharedMemory;
pub(crate) use queue::{Descriptor, IN, INDIRECT, NEXT, OUT, Queue, SECURE_ERASE, WRITE};

/// VIRTIO_F_VERSION_1.
pub(crate) const VERSION_1: u64 = 1 << 32;

/// VIRTIO_F_ACCESS_PLATFORM.
pub(crate) const ACCESS_PLATFORM: u64 = 1 << 33;

/// VIRTIO_BLK_F_RO.
pub(crate) const RO: u64 = 1 << 5;

/// VIRTIO_BLK_F_BLK_SIZE.
pub(crate) const BLK_SIZE: u64 = 1 << 6;

/// VIRTIO_BLK_F_SECURE_ERASE.
pub(crate) const F_SECURE_ERASE: u64 = 1 << 16;

/// VIRTIO_RING_F_INDIRECT_DESC.
pub(crate) const INDIRECT_DESC: u64 = 1 << 28;

/// VIRTIO_RING_F_EVENT_IDX.
pub(crate) const EVENT_IDX: u64 = 1 << 29;

/// Features with which everything is as simple as can be: no event indexes, no indirect tables.
pub(crate) const PLAIN: u64 = VERSION_1 | ACCESS_PLATFORM;

/// Where the rings lie in the device's address space.
const RINGS: u64 = 0x10_0000;

/// Where a second memory is mapped.
pub(crate) const SECOND: u64 = 0x4000_0000;

/// ACKNOWLEDGE and DRIVER.
const PRESENT: u8 = 1 | 2;

/// A device with running queues.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) kernel: Kernel,
    pub(crate) memory: SharedMemory,
    pub(crate) queues: Vec<Queue>,
    /// Keep the kernel's end of each kick alive.
    pub(crate) kicks: Vec<OwnedFd>,
}

impl Device {
    /// Opens `node` and starts `queues` queues with `features`.
    pub(crate) fn start(node: &Path, queues: u16, features: u64) -> Self {
        let mut device = Self::open(node);
        device.set_up(queues, features);
        device
    }

    /// Opens `node` and starts `queues` queues, which are not enabled.
    pub(crate) fn start_disabled(node: &Path, queues: u16, features: u64) -> Self {
        let mut device = Self::open(node);
        device.map_rings();
        device.negotiate(queues, features);
        device.run();
        device
    }

    fn open(node: &Path) -> Self {
        Self {
            kernel: Kernel::open(node),
            memory: SharedMemory::new(1 << 20),
            queues: Vec::new(),
            kicks: Vec::new(),
        }
    }

    /// Resets the device and starts it anew, with fresh memory.
    pub(crate) fn restart(&mut self, queues: u16, features: u64) {
        self.kernel.set_status(0);
        self.kernel.unmap(RINGS, self.memory.bytes());
        self.memory = SharedMemory::new(1 << 20);
        self.set_up(queues, features);
    }

    /// Resets the device and starts it with rings that are in no memory until
    /// [`map_rings`](Self::map_rings).
    pub(crate) fn start_without_memory(&mut self, queues: u16, features: u64) {
        self.kernel.set_status(0);
        self.kernel.unmap(RINGS, self.memory.bytes());
        self.negotiate_and_run(queues, features);
    }

    /// Maps the memory that the rings are in.
    pub(crate) fn map_rings(&mut self) {
        self.kernel.map(RINGS, &self.memory);
    }

    fn set_up(&mut self, queues: u16, features: u64) {
        self.map_rings();
        self.negotiate_and_run(queues, features);
    }

    fn negotiate_and_run(&mut self, queues: u16, features: u64) {
        self.negotiate(queues, features);
        for index in 0..u32::from(queues) {
            self.kernel.enable(index, true);
        }
        self.run();
    }

    fn negotiate(&mut self, queues: u16, features: u64) {
        self.kernel.set_status(PRESENT);
        self.kernel.set_features(features);
        self.kernel.set_status(PRESENT | FEATURES_OK);
        assert_eq!(self.kernel.status(), PRESENT | FEATURES_OK);
        self.queues = (0..queues)
            .map(|index| Queue::new(index, RINGS, &self.memory))
            .collect();
        self.kicks = self
            .queues
            .iter()
            .map(|queue| self.kernel.set_queue(queue))
            .collect();
    }

    fn run(&self) {
        self.kernel.set_status(PRESENT | FEATURES_OK | DRIVER_OK);
    }

    /// Offers a read of queue `index`. Returns whether it is answered before a good while has passed.
    pub(crate) fn is_served(&mut self, index: usize) -> bool {
        self.queues[index].prepare(&self.memory, queue::IN, 0, &[0; 512]);
        self.publish(index);
        let end = std::time::Instant::now() + std::time::Duration::from_millis(300);
        while std::time::Instant::now() < end {
            if self.queues[index].answer(&self.memory, &mut []).is_some() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        false
    }

    /// Shows the device what was put into queue `index`.
    pub(crate) fn publish(&mut self, index: usize) {
        self.queues[index].publish(&self.memory);
        self.kick(index);
    }

    /// Wakes the worker of queue `index`, should it sleep.
    pub(crate) fn kick(&self, index: usize) {
        nix::unistd::write(&self.kicks[index], &1_u64.to_ne_bytes()).expect("an eventfd");
    }

    /// Waits for the one request of queue `index` to be returned. Returns its status byte.
    pub(crate) fn status_of_one(&mut self, index: usize) -> u8 {
        let (queue, memory) = (&mut self.queues[index], &self.memory);
        crate::guest::until("the answer to a request", || queue.answer(memory, &mut []))
    }

    /// Does one request on queue `index`. Returns its status byte.
    pub(crate) fn request(&mut self, index: usize, kind: u32, sector: u64, data: &mut [u8]) -> u8 {
        self.queues[index].prepare(&self.memory, kind, sector, data);
        self.publish(index);
        let (queue, memory) = (&mut self.queues[index], &self.memory);
        crate::guest::until("the answer to a request", || queue.answer(memory, data))
    }

    /// Writes and reads back on queue `index`.
    pub(crate) fn prove(&mut self, index: usize) {
        let sector = 64 * index as u64;
        let mut data = [0x5a ^ index as u8; 4096];
        assert_eq!(self.request(index, queue::OUT, sector, &mut data), 0);
        let mut back = [0; 4096];
        assert_eq!(self.request(index, queue::IN, sector, &mut back), 0);
        assert!(data == back, "other data came back");
    }
}
