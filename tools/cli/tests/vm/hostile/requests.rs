//! Requests that are well formed and cannot be done: they are answered, and the queue goes on.

use pollux_control::device::QueueState;

use crate::guest::in_guest;
use crate::vhost::{BLK_SIZE, Device, PLAIN, RO};

use super::{queue, serve};

const IN: u32 = 0;
const OUT: u32 = 1;
const GET_ID: u32 = 8;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

#[test]
fn requests_that_cannot_be_done_are_answered() {
    in_guest(|| {
        let daemon = serve("ram,size=64M,block_size=4096,serial=abc");
        let mut device = Device::start(&daemon.node(), 2, PLAIN | BLK_SIZE);
        let sectors = (64 << 20) / 512;
        for (kind, sector, bytes, answer) in [
            (IN, sectors, 4096, IOERR),
            (OUT, sectors - 1, 4096, IOERR),
            (IN, u64::MAX, 4096, IOERR),
            // Not whole blocks, or not at the start of one.
            (OUT, 0, 512, IOERR),
            (IN, 1, 4096, IOERR),
            // Neither is anything.
            (12, 0, 4096, UNSUPP),
            (99, 0, 4096, UNSUPP),
            (IN, sectors - 8, 4096, OK),
        ] {
            let mut data = vec![0; bytes];
            let status = device.request(0, kind, sector, &mut data);
            assert_eq!(status, answer, "type {kind} at {sector} with {bytes} bytes");
        }
        let mut id = [0xff; 20];
        assert_eq!(device.request(0, GET_ID, 0, &mut id), OK);
        assert_eq!(&id[..4], b"abc\0");
        let queue = queue(&daemon, 0);
        assert_eq!((queue.state, queue.fault), (QueueState::Running, None));
        assert_eq!(queue.errors, 7);
        drop(device);
        daemon.stop();
    });
}

#[test]
fn a_read_only_disk_refuses_writes_of_a_driver_that_does_not_ask() {
    in_guest(|| {
        let daemon = serve("ram,size=64M,ro=on");
        // Even one that did not accept the feature.
        for features in [PLAIN | RO, PLAIN] {
            let mut device = Device::start(&daemon.node(), 2, features);
            assert_eq!(device.request(0, OUT, 0, &mut [7; 512]), IOERR);
            let mut data = [7; 512];
            assert_eq!(device.request(0, IN, 0, &mut data), OK);
            assert_eq!(data, [0; 512]);
        }
        daemon.stop();
    });
}
