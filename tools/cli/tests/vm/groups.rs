//! Virtqueue groups with address spaces of their own (API version 1), which a disk of Pollux has no use for and the
//! crate `vduse` offers to others.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use pollux_control::vdpa::{self, Driver};
use vduse::{Control, Device, DeviceConfig, ProtocolFeatures, Reply, RequestKind};

use crate::guest::in_guest;
use crate::protocol::has_api_1;
use crate::vhost::{Kernel, PLAIN, SharedMemory};

const QUEUE_SIZE: u16 = 64;

/// Where both address spaces have something mapped.
const PLACE: u64 = 0x10_0000;

/// A thread that answers a device's messages and keeps them. Joining it ends it.
struct Answering {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<RequestKind>>,
}

impl Answering {
    fn start(device: &Arc<Device>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (ending, device) = (Arc::clone(&ends), Arc::clone(device));
        let thread = spawn(move || {
            let mut seen = Vec::new();
            while !ending.load(Ordering::Relaxed) {
                let Some(request) = device.receive().unwrap() else {
                    sleep(Duration::from_millis(1));
                    continue;
                };
                let reply = match request.kind {
                    RequestKind::GetQueueState { .. } => Reply::SplitState { avail_index: 0 },
                    _ => Reply::Ok,
                };
                device.reply(&request, reply).unwrap();
                seen.push(request.kind);
            }
            seen
        });
        Self { ends, thread }
    }

    fn end(self) -> Vec<RequestKind> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Returns the first bytes of what is mapped at [`PLACE`] in address space `asid`, if anything is.
fn bytes_at(device: &Device, asid: u32) -> Option<[u8; 4]> {
    let found = device.address_space(asid).iotlb_fd(PLACE, PLACE);
    let entry = found.unwrap()?;
    assert_eq!(entry.start, PLACE);
    let mut bytes = [0; 4];
    let file = std::fs::File::from(entry.fd);
    file.read_exact_at(&mut bytes, entry.offset).unwrap();
    Some(bytes)
}

#[test]
fn a_group_sees_the_memory_of_its_address_space_alone() {
    in_guest(|| {
        let control = Control::open().unwrap();
        control.set_newest_api_version().unwrap();
        if has_api_1() {
            let features = control.features().unwrap() & ProtocolFeatures::empty();
            control.set_features(features).unwrap();
        }
        let config = DeviceConfig {
            name: "g0".parse().unwrap(),
            vendor_id: 0,
            device_id: 2,
            features: PLAIN,
            queue_count: 2,
            group_count: 2,
            address_space_count: 2,
            config: vec![0; 96],
        };
        let created = control.create(&config);
        if !has_api_1() {
            assert!(created.is_err(), "groups before Linux 7.0");
            return;
        }
        created.unwrap();
        let device = Arc::new(Device::open(&config.name).unwrap());
        for index in 0..2 {
            let set_up = device.setup_queue_in_group(index, QUEUE_SIZE, index);
            set_up.unwrap();
        }
        let answering = Answering::start(&device);
        let node = vdpa::attach(&config.name, Driver::Vhost).unwrap().node;
        let mut kernel = Kernel::open(&node.unwrap());
        assert_eq!(kernel.groups_and_address_spaces(), (2, 2));
        kernel.set_group_asid(1, 1).unwrap();
        let memories = [*b"zero", *b"one!"].map(|text| {
            let memory = SharedMemory::new(1 << 16);
            memory.write(0, &text);
            memory
        });
        assert_eq!(bytes_at(&device, 0), None);
        kernel.map_in(1, PLACE, &memories[1]);
        assert_eq!(bytes_at(&device, 0), None);
        assert_eq!(bytes_at(&device, 1), Some(*b"one!"));
        kernel.map(PLACE, &memories[0]);
        assert_eq!(bytes_at(&device, 0), Some(*b"zero"));
        assert_eq!(bytes_at(&device, 1), Some(*b"one!"));
        let last = PLACE + memories[1].bytes() - 1;
        let info = device.address_space(1).iotlb_info(PLACE, last);
        assert!(info.unwrap().is_some());
        assert_eq!(bytes_at(&device, 2), None, "there is no such space");
        drop(kernel);
        vdpa::detach(&config.name).unwrap();
        let seen = answering.end();
        let given = RequestKind::SetGroupAsid { group: 1, asid: 1 };
        assert!(seen.contains(&given), "{seen:?}");
        for space in [0, 1] {
            let told = |kind: &RequestKind| matches!(kind, RequestKind::UpdateIotlb { asid, .. } if *asid == space);
            assert!(seen.iter().any(told), "{space}: {seen:?}");
        }
        drop(device);
        control.destroy(&config.name).unwrap();
    });
}
