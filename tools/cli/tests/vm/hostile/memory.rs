//! Memory that comes, goes and vanishes while queues use it.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pollux_control::device::QueueState;

use crate::guest::{PATIENCE, in_guest};
use crate::vhost::{Descriptor, Device, IN, NEXT, PLAIN, Queue, SECOND, SharedMemory, WRITE};

use super::{assert_only_queue_0_broken, queue, serve, why_broken};

const BYTES: u64 = 1 << 16;

/// Offers a read of the disk's first sectors into `address` on queue 0.
fn read_into(device: &mut Device, address: u64) {
    let (queue, memory) = (&mut device.queues[0], &device.memory);
    queue.write_header(memory, 0, 0);
    let [header, _, status] = queue.buffers();
    let chain = [
        (header, 16, NEXT),
        (address, 4096, NEXT | WRITE),
        (status, 1, WRITE),
    ];
    for (place, (address, bytes, flags)) in (0..).zip(chain) {
        let next = place + 1;
        let descriptor = Descriptor {
            address,
            bytes,
            flags,
            next,
        };
        queue.describe(memory, place, descriptor);
    }
    queue.offer(memory, 0);
    device.publish(0);
}

#[test]
fn memory_is_added_and_removed_while_queues_run() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        for _ in 0..5 {
            let second = SharedMemory::new(BYTES as usize);
            device.kernel.map(SECOND, &second);
            read_into(&mut device, SECOND + 4096);
            assert_eq!(device.status_of_one(0), 0);
            let mut data = [0; 4096];
            second.read(4096, &mut data);
            assert!(data.iter().all(|&byte| byte == 0x5a));
            device.kernel.unmap(SECOND, BYTES);
            device.prove(1);
            device.prove(0);
        }
        read_into(&mut device, SECOND);
        let words = "address 0x40000000 with 4096 bytes is not mapped";
        assert_only_queue_0_broken(&daemon, &mut device, PLAIN, words);
        drop(device);
        daemon.stop();
    });
}

/// Reads what `prove` wrote on queue `index`, without a pause before the answer is looked for.
fn read_again(queue: &mut Queue, memory: &SharedMemory, kick: &OwnedFd, index: u8) {
    let mut data = [0; 4096];
    queue.prepare(memory, IN, 64 * u64::from(index), &data);
    queue.publish(memory);
    nix::unistd::write(kick, &1_u64.to_ne_bytes()).expect("an eventfd");
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match queue.answer(memory, &mut data) {
            Some(status) => break status,
            None => assert!(Instant::now() < end, "no answer on queue {index}"),
        }
        std::thread::yield_now();
    };
    assert_eq!(status, 0);
    assert!(data == [0x5a ^ index; 4096], "other data came back");
}

#[test]
fn memory_is_added_and_removed_under_requests_in_flight() {
    const CHANGES: usize = 100;
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        device.prove(1);
        let second = SharedMemory::new(BYTES as usize);
        let done = AtomicBool::new(false);
        let (kernel, memory) = (&mut device.kernel, &device.memory);
        let served: Vec<u64> = std::thread::scope(|scope| {
            let queues = (0..).zip(&mut device.queues).zip(&device.kicks);
            let loads = queues.map(|((index, queue), kick)| {
                let done = &done;
                scope.spawn(move || {
                    let mut served = 0;
                    while !done.load(Ordering::Relaxed) {
                        read_again(queue, memory, kick, index);
                        served += 1;
                    }
                    served
                })
            });
            let loads: Vec<_> = loads.collect();
            for _ in 0..CHANGES {
                kernel.map(SECOND, &second);
                kernel.unmap(SECOND, BYTES);
            }
            done.store(true, Ordering::Relaxed);
            loads.into_iter().map(|load| load.join().unwrap()).collect()
        });
        assert!(served.iter().all(|&count| count > 20), "{served:?}");
        drop(device);
        daemon.stop();
    });
}

#[test]
fn data_that_vanishes_breaks_its_queue() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        let second = SharedMemory::new(BYTES as usize);
        device.kernel.map(SECOND, &second);
        device.prove(0);
        second.vanish();
        read_into(&mut device, SECOND);
        assert_eq!(device.status_of_one(0), 1, "VIRTIO_BLK_S_IOERR");
        let words = "memory named by a descriptor does not exist";
        assert_only_queue_0_broken(&daemon, &mut device, PLAIN, words);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn rings_that_vanish_end_no_process() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        device.prove(1);
        device.memory.vanish();
        for index in 0..2 {
            device.kick(index);
            let reason = why_broken(&daemon, index);
            assert!(!reason.is_empty());
        }
        device.restart(2, PLAIN);
        device.prove(0);
        device.prove(1);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn rings_that_are_nowhere_are_broken_until_they_are_mapped() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.start_without_memory(2, PLAIN);
        for index in 0..2 {
            let reason = why_broken(&daemon, index);
            assert!(
                reason.contains("area") && reason.contains("not mapped"),
                "{reason}"
            );
        }
        device.map_rings();
        device.prove(0);
        assert_eq!(queue(&daemon, 0).state, QueueState::Running);
        drop(device);
        daemon.stop();
    });
}

/// Whatever a driver does again and again, of each kind of line ten pass at once and one a second after that.
#[test]
fn a_driver_that_keeps_coming_without_memory_does_not_fill_the_log() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        let before = daemon.log().lines().count();
        let begun = Instant::now();
        let rounds = 300;
        for _ in 0..rounds {
            device.start_without_memory(2, PLAIN);
            device.map_rings();
        }
        device.restart(2, PLAIN);
        let seconds = begun.elapsed().as_secs() as usize + 1;
        device.prove(0);
        device.prove(1);
        let log = daemon.log();
        let lines = log.lines().count() - before;
        println!("{lines} lines of {rounds} rounds in {seconds} s");
        let refused = log.matches("the queue cannot be served").count();
        assert!((2..rounds).contains(&refused), "{refused}: {log}");
        // Each with one that tells what was left out: that a driver came, went, and what is wrong with its queues.
        assert!(
            lines <= 4 * 2 * (10 + seconds),
            "{lines} lines in {seconds} s: {log}"
        );
        drop(device);
        daemon.stop();
    });
}
