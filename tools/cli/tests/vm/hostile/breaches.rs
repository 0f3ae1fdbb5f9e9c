//! Chains and rings that VIRTIO forbids.

use pollux_control::device::QueueState;

use crate::guest::{Daemon, Fio, PATIENCE, in_guest, pollux};
use crate::vhost::{Descriptor, Device, EVENT_IDX, INDIRECT, INDIRECT_DESC, NEXT, PLAIN, WRITE};

use super::{assert_only_queue_0_broken, serve, why_broken};

const HEADER: u64 = 0;
const DATA: u64 = 1;
const STATUS: u64 = 2;

/// One breach: the descriptors written from place 0 on, and what `pollux status` must say of it. An
/// address below 3 stands for the queue's own header, data and status.
struct Breach {
    says: &'static str,
    features: u64,
    chain: &'static [Descriptor],
}

const fn descriptor(address: u64, bytes: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor {
        address,
        bytes,
        flags,
        next,
    }
}

const END: Descriptor = descriptor(STATUS, 1, WRITE, 0);

const BREACHES: &[Breach] = &[
    Breach {
        says: "loops or is longer than 16",
        features: PLAIN,
        chain: &[
            descriptor(HEADER, 16, NEXT, 1),
            descriptor(DATA, 512, NEXT, 1),
        ],
    },
    Breach {
        says: "descriptor 16 is outside of its table of 16",
        features: PLAIN,
        chain: &[descriptor(HEADER, 16, NEXT, 16)],
    },
    Breach {
        says: "descriptor 65535 is outside",
        features: PLAIN,
        chain: &[descriptor(HEADER, 16, NEXT, u16::MAX)],
    },
    Breach {
        says: "address 0x7fff00000000 with 512 bytes is not mapped",
        features: PLAIN,
        chain: &[
            descriptor(HEADER, 16, NEXT, 1),
            descriptor(0x7fff_0000_0000, 512, NEXT | WRITE, 2),
            END,
        ],
    },
    Breach {
        says: "is not mapped",
        features: PLAIN,
        chain: &[
            descriptor(HEADER, 16, NEXT, 1),
            descriptor(u64::MAX - 511, 512, NEXT | WRITE, 2),
            END,
        ],
    },
    Breach {
        says: "is not mapped",
        features: PLAIN,
        chain: &[
            descriptor(HEADER, 16, NEXT, 1),
            // Starts inside and ends outside.
            descriptor(DATA, u32::MAX, NEXT | WRITE, 2),
            END,
        ],
    },
    Breach {
        says: "a descriptor of zero bytes",
        features: PLAIN,
        chain: &[
            descriptor(HEADER, 0, NEXT, 1),
            descriptor(STATUS, 1, WRITE, 0),
        ],
    },
    Breach {
        says: "0 device-readable bytes are too few for a request header",
        features: PLAIN,
        chain: &[
            descriptor(HEADER, 16, NEXT | WRITE, 1),
            descriptor(STATUS, 1, WRITE, 0),
        ],
    },
    Breach {
        says: "no device-writable byte for the status",
        features: PLAIN,
        chain: &[descriptor(HEADER, 16, NEXT, 1), descriptor(DATA, 512, 0, 0)],
    },
    Breach {
        says: "a device-readable descriptor after a device-writable one",
        features: PLAIN,
        chain: &[
            descriptor(HEADER, 16, NEXT, 1),
            descriptor(DATA, 512, NEXT | WRITE, 2),
            descriptor(DATA, 512, 0, 0),
        ],
    },
    Breach {
        says: "an indirect descriptor without VIRTIO_RING_F_INDIRECT_DESC",
        features: PLAIN,
        chain: &[descriptor(DATA, 48, INDIRECT, 0)],
    },
    Breach {
        says: "an indirect table of 24 bytes",
        features: PLAIN | INDIRECT_DESC | EVENT_IDX,
        chain: &[descriptor(DATA, 24, INDIRECT, 0)],
    },
    Breach {
        says: "an indirect descriptor inside an indirect table or with a next",
        features: PLAIN | INDIRECT_DESC | EVENT_IDX,
        chain: &[descriptor(DATA, 48, INDIRECT | NEXT, 1), END],
    },
    Breach {
        says: "is not mapped",
        features: PLAIN | INDIRECT_DESC | EVENT_IDX,
        chain: &[descriptor(0x7fff_0000_0000, 48, INDIRECT, 0)],
    },
];

/// Puts the chain of `breach` into queue 0.
fn commit(device: &mut Device, breach: &Breach) {
    let (queue, memory) = (&mut device.queues[0], &device.memory);
    queue.write_header(memory, 0, 0);
    for (place, descriptor) in (0..).zip(breach.chain) {
        let mut descriptor = *descriptor;
        if let Some(own) = queue.buffers().get(descriptor.address as usize) {
            descriptor.address = *own;
        }
        queue.describe(memory, place, descriptor);
    }
    queue.offer(memory, 0);
    device.publish(0);
}

#[test]
fn a_breach_breaks_its_queue_and_nothing_else() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let other = Daemon::serve("d1", "ram,size=64M", &["--attach", "virtio"]);
        let verified = Fio::verify(other.disk().node(), "16k", 8, "2M")
            .with("loops", "1000")
            .with("time_based", "1")
            .with("runtime", "12");
        let load = verified.start();
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        for breach in BREACHES {
            device.restart(2, breach.features);
            device.prove(0);
            commit(&mut device, breach);
            assert_only_queue_0_broken(&daemon, &mut device, breach.features, breach.says);
        }
        load.wait(PATIENCE).succeeded();
        assert_eq!(other.snapshot().queues[0].errors, 0);
        drop(device);
        daemon.stop();
        other.stop();
    });
}

#[test]
fn an_avail_ring_that_makes_no_sense_breaks_its_queue() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        device.prove(0);
        device.queues[0].offer(&device.memory, 16);
        device.publish(0);
        let words = "avail entry 16 is outside of the queue of 16";
        assert_only_queue_0_broken(&daemon, &mut device, PLAIN, words);
        device.queues[0].jump(1000);
        device.publish(0);
        let words = "the avail index jumped from 2 to 1002 in a queue of 16";
        assert_only_queue_0_broken(&daemon, &mut device, PLAIN, words);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_broken_queue_answers_with_errors_until_the_reset() {
    in_guest(|| {
        let daemon = serve("ram,size=64M");
        let mut device = Device::start(&daemon.node(), 2, PLAIN);
        let breach = &BREACHES[3];
        commit(&mut device, breach);
        assert!(why_broken(&daemon, 0).contains(breach.says));
        let status = device.status_of_one(0);
        assert_eq!(status, 1, "VIRTIO_BLK_S_IOERR");
        for _ in 0..20 {
            assert_eq!(device.request(0, 0, 0, &mut [0; 512]), 1);
        }
        let shown = pollux(&["status", "d0"]).succeeded();
        let row = shown.lines().find(|line| line.contains("broken"));
        let row = row.unwrap_or_else(|| panic!("{shown}"));
        assert!(row.contains(breach.says), "{row}");
        let stats = super::queue(&daemon, 0);
        assert_eq!((stats.driver_faults, stats.errors), (1, 21));
        device.restart(2, PLAIN);
        device.prove(0);
        assert_eq!(super::queue(&daemon, 0).state, QueueState::Running);
        drop(device);
        daemon.stop();
    });
}
