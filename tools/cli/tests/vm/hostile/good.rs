//! Well-behaved drivers in user space, one of them written by nobody here.

#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use virtio_driver::{
    VhostVdpa, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkTransport, VirtioFeatureFlags,
};

use crate::guest::{Daemon, in_guest, until};
use crate::vhost::{Device, EVENT_IDX, PLAIN, SharedMemory};

use super::serve;

const BLOCK: usize = 4096;
const DEPTH: usize = 16;

/// Writes and reads back `DEPTH` blocks at a time on both queues.
fn write_and_read_back(daemon: &Daemon, features: u64) {
    let node = daemon.node();
    let vdpa = VhostVdpa::with_path(node.to_str().unwrap(), features).unwrap();
    let mut transport: Box<VirtioBlkTransport> = Box::new(vdpa);
    let mut queues = VirtioBlkQueue::<usize>::setup_queues(&mut *transport, 2, 64).unwrap();
    let memory = SharedMemory::new(2 * DEPTH * BLOCK);
    let (start, length) = (memory.address() as usize, memory.bytes() as usize);
    let fd = memory.file().as_raw_fd();
    transport.map_mem_region(start, length, fd, 0).unwrap();
    for (number, queue) in queues.iter_mut().enumerate() {
        let block = |index: usize| vec![(13 * index + number) as u8 + 1; BLOCK];
        let at = |index: usize| (index * BLOCK) as u64;
        let on_disk = |index: usize| at(DEPTH * number + index);
        let mut all = |reads: bool| {
            for index in 0..DEPTH {
                let buffer = memory.pointer(index * BLOCK, BLOCK);
                // SAFETY: the buffer is in `memory`, which outlives the queue's requests.
                let submitted = unsafe {
                    match reads {
                        true => queue.read_raw(on_disk(index), buffer, BLOCK, index),
                        false => queue.write_raw(on_disk(index), buffer, BLOCK, index),
                    }
                };
                submitted.unwrap();
            }
            transport.get_submission_notifier(number).notify().unwrap();
            let mut done = 0;
            until("all completions", || {
                for completion in queue.completions() {
                    assert_eq!(completion.ret, 0, "{}", completion.context);
                    done += 1;
                }
                (done == DEPTH).then_some(())
            });
        };
        (0..DEPTH).for_each(|index| memory.write(at(index), &block(index)));
        all(false);
        memory.write(0, &[0; DEPTH * BLOCK]);
        all(true);
        for index in 0..DEPTH {
            let mut back = vec![0; BLOCK];
            memory.read(at(index), &mut back);
            assert!(back == block(index), "queue {number} block {index}");
        }
    }
    for queue in daemon.snapshot().queues {
        assert_eq!((queue.errors, queue.fault), (0, None));
        assert!(queue.requests >= 2 * DEPTH as u64);
    }
}

#[test]
fn virtio_driver_reads_what_it_wrote() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let simple = VirtioFeatureFlags::VERSION_1.bits() | VirtioBlkFeatureFlags::MQ.bits();
        write_and_read_back(&daemon, simple);
        let event_idx = VirtioFeatureFlags::RING_EVENT_IDX.bits();
        write_and_read_back(&daemon, simple | event_idx);
        daemon.stop();
    });
}

#[test]
fn a_driver_is_told_where_its_queue_stands() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN | EVENT_IDX);
        for _ in 0..3 {
            device.prove(1);
        }
        assert_eq!(device.kernel.vring_base(0), Ok(0));
        assert_eq!(device.kernel.vring_base(1), Ok(6));
        drop(device);
        daemon.stop();
    });
}
