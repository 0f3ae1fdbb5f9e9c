//! A driver of the crate `virtio-driver`, with room for a request a queue.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use virtio_driver::{QueueNotifier, VhostUser, VirtioBlkQueue, VirtioBlkTransport};
use vm_memory::{FileOffset, MmapRegion};

pub(crate) const BLOCK: usize = 4096;
const VERSION_1: u64 = 1 << 32;
const FLUSH: u64 = 1 << 9;
const MQ: u64 = 1 << 12;
const QUEUE_SIZE: u16 = 64;
const PATIENCE: Duration = Duration::from_secs(30);

/// Fields are dropped from first to last: the device is given up before its memory is.
pub(crate) struct Client {
    queues: Vec<VirtioBlkQueue<'static, ()>>,
    notifiers: Vec<Box<dyn QueueNotifier>>,
    transport: Box<VirtioBlkTransport>,
    /// A block a queue.
    blocks: MmapRegion,
}

impl Client {
    /// Connects to `socket` and starts `queues` queues with `features` and what every disk needs.
    pub(crate) fn connect(socket: &str, features: u64, queues: usize) -> Self {
        let multi = if queues > 1 { MQ } else { 0 };
        let wanted = features | VERSION_1 | FLUSH | multi;
        let transport = VhostUser::new(socket, wanted).expect("a frontend");
        let mut transport: Box<VirtioBlkTransport> = Box::new(transport);
        assert_eq!(transport.get_features() & wanted, wanted);
        let file = File::from(memfd_create("blocks", MFdFlags::MFD_CLOEXEC).unwrap());
        let bytes = queues * BLOCK;
        file.set_len(bytes as u64).unwrap();
        let blocks = MmapRegion::from_file(FileOffset::new(file, 0), bytes).unwrap();
        let fd = blocks.file_offset().unwrap().file().as_raw_fd();
        transport
            .map_mem_region(blocks.as_ptr() as usize, bytes, fd, 0)
            .unwrap();
        let started = VirtioBlkQueue::setup_queues(&mut *transport, queues, QUEUE_SIZE);
        let started = started.expect("queues");
        let notifiers = (0..queues).map(|index| transport.get_submission_notifier(index));
        Self {
            queues: started,
            notifiers: notifiers.collect(),
            transport,
            blocks,
        }
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        let config = self.transport.get_config().expect("a configuration space");
        u64::from(config.capacity) * 512
    }

    fn block(&self, queue: usize) -> *mut u8 {
        assert!(queue < self.queues.len());
        // SAFETY: there is a block for each queue.
        unsafe { self.blocks.as_ptr().add(queue * BLOCK) }
    }

    pub(crate) fn write(&mut self, queue: usize, number: u64, data: &[u8; BLOCK]) {
        let block = self.block(queue);
        // SAFETY: the block is mapped, and no request uses it: `finish` waits for each.
        unsafe { block.copy_from_nonoverlapping(data.as_ptr(), BLOCK) };
        let offset = number * BLOCK as u64;
        // SAFETY: as above; it stays mapped until after the device was given up.
        let sent = unsafe { self.queues[queue].write_raw(offset, block, BLOCK, ()) };
        sent.unwrap();
        self.finish(queue);
    }

    pub(crate) fn read(&mut self, queue: usize, number: u64) -> [u8; BLOCK] {
        let block = self.block(queue);
        let offset = number * BLOCK as u64;
        // SAFETY: the block is mapped until after the device was given up.
        let sent = unsafe { self.queues[queue].read_raw(offset, block, BLOCK, ()) };
        sent.unwrap();
        self.finish(queue);
        let mut data = [0; BLOCK];
        // SAFETY: the request that wrote there is over.
        unsafe { block.copy_to_nonoverlapping(data.as_mut_ptr(), BLOCK) };
        data
    }

    pub(crate) fn flush(&mut self, queue: usize) {
        self.queues[queue].flush(()).unwrap();
        self.finish(queue);
    }

    /// Kicks the device, if it wants that, and waits for its one answer.
    fn finish(&mut self, queue: usize) {
        if self.queues[queue].avail_notif_needed() {
            self.notifiers[queue].notify().unwrap();
        }
        let begun = Instant::now();
        loop {
            if let Some(completion) = self.queues[queue].completions().next() {
                assert_eq!(completion.ret, 0);
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no answer on queue {queue}");
            std::thread::yield_now();
        }
    }
}
