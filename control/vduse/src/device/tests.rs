//! What can be seen of a device without the kernel's VDUSE.

use super::*;
use crate::RequestKind;
use std::fs;
use std::os::unix::fs::FileExt;

fn name() -> Name {
    Name::try_from("d0").unwrap()
}

/// A regular file in place of the node: ioctls fail with ENOTTY, reads and writes work.
fn fake() -> (tempfile::TempDir, Device) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("d0"), []).unwrap();
    let device = Device::open_at(folder.path(), &name()).unwrap();
    (folder, device)
}

#[test]
fn a_device_crosses_threads() {
    fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Device>();
}

#[test]
fn a_missing_device_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Device::open_at(folder.path(), &name()).unwrap_err();
    assert!(matches!(error, OpenError::Unknown { .. }));
    assert!(error.to_string().contains("/dev/vduse/d0"), "{error}");
}

#[test]
fn a_taken_device_is_busy() {
    let error = OpenError::new(&name(), io::Error::from_raw_os_error(libc::EBUSY));
    assert!(matches!(error, OpenError::Busy { .. }));
}

#[test]
fn the_file_is_closed_on_exec_and_does_not_block() {
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    let (_folder, device) = fake();
    let flags = FdFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    let status = OFlag::from_bits_retain(fcntl(&device, FcntlArg::F_GETFL).unwrap());
    assert!(status.contains(OFlag::O_NONBLOCK));
}

#[test]
fn a_whole_message_is_received_and_a_part_refused() {
    let (_folder, device) = fake();
    let mut bytes = [0; MESSAGE_SIZE];
    bytes[0..4].copy_from_slice(&1_u32.to_ne_bytes());
    bytes[4..8].copy_from_slice(&9_u32.to_ne_bytes());
    bytes[24] = 0x0b;
    device.file.write_all_at(&bytes, 0).unwrap();
    let request = device.receive().unwrap().unwrap();
    let expected = Request {
        id: 9,
        kind: RequestKind::SetStatus { status: 0x0b },
    };
    assert_eq!(request, expected);
    assert!(matches!(
        device.receive(),
        Err(DeviceError::Other {
            operation: "read",
            ..
        })
    ));
}

#[test]
fn a_reply_is_one_whole_write() {
    let (folder, device) = fake();
    let request = Request {
        id: 7,
        kind: RequestKind::SetStatus { status: 0 },
    };
    device.reply(&request, Reply::Failed).unwrap();
    let written = fs::read(folder.path().join("d0")).unwrap();
    assert_eq!(written, Reply::Failed.encode(&request));
}

#[test]
fn errors_are_told_apart() {
    let sorted = |operation, errno| DeviceError::new(&name(), operation, errno);
    let inject = "VDUSE_VQ_INJECT_IRQ";
    assert!(matches!(
        sorted(inject, Errno::EPERM),
        DeviceError::Broken { .. }
    ));
    assert!(matches!(
        sorted(inject, Errno::EINVAL),
        DeviceError::Invalid { .. }
    ));
    assert!(matches!(
        sorted(inject, Errno::ENOMEM),
        DeviceError::Other { .. }
    ));
    let register = "VDUSE_IOTLB_REG_UMEM";
    assert!(matches!(
        sorted(register, Errno::ENOMEM),
        DeviceError::MemoryLock { .. }
    ));
    assert!(matches!(
        sorted(register, Errno::EEXIST),
        DeviceError::UmemExists { .. }
    ));
    let deregister = "VDUSE_IOTLB_DEREG_UMEM";
    assert!(matches!(
        sorted(deregister, Errno::ENOENT),
        DeviceError::UmemMissing { .. }
    ));
    let (_folder, device) = fake();
    assert!(matches!(
        device.iotlb_info(0, 1),
        Err(DeviceError::Unsupported { .. })
    ));
    let error = device.address_space(0).iotlb_fd(0, 1).unwrap_err();
    assert!(error.to_string().contains("API version 1"), "{error}");
    assert!(matches!(
        device.queue_info(0),
        Err(DeviceError::Unsupported { .. })
    ));
}
