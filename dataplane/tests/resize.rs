//! A disk that gets another size while a worker serves it.

mod common;
mod deferred;

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use common::{DISK_BYTES, PATIENCE, Rig, options, pattern};
use deferred::Deferred;
use pollux_dataplane::backend::{Backend, DiskError, DiskOptions, Ram, RamMemory};
use pollux_dataplane::driver::BlockDriver;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::{Answer, Command, PollMode};
use virtio_bindings::virtio_blk::VIRTIO_BLK_T_DISCARD;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;

/// The first sector beyond the disk as it is made.
const END: u64 = DISK_BYTES / 512;

fn rig<B: Backend>(backend: &B, mode: PollMode) -> Rig {
    let driver = BlockDriver::new(64, 4096, RingFeatures::EVENT_IDX).unwrap();
    Rig::new(backend, mode, driver)
}

/// Tells the worker of the size that `backend` has, or is to have.
fn tell(rig: &Rig, backend: &impl Backend, size_bytes: u64) {
    let geometry = backend.resized(size_bytes).unwrap();
    let answer = rig.ask(Command::Resize(geometry));
    assert!(matches!(answer, Answer::Resized), "{answer:?}");
}

fn resize(backend: &mut impl Backend, size_bytes: u64) {
    let geometry = backend.resized(size_bytes).unwrap();
    backend.resize(geometry).unwrap();
    assert_eq!(backend.geometry().size_bytes(), size_bytes);
}

#[test]
fn a_disk_grows_and_shrinks_under_a_queue_that_stays_open() {
    for mode in [PollMode::Busy, PollMode::Event] {
        let mut backend = common::ram();
        let mut rig = rig(&backend, mode);
        let data = pattern(1, 512);
        assert_eq!(rig.write(END - 1, &data), OK);
        assert_eq!(rig.write(END, &data), IO_ERROR);
        resize(&mut backend, 2 * DISK_BYTES);
        tell(&rig, &backend, 2 * DISK_BYTES);
        assert_eq!(rig.read(END, 512).data, [0; 512]);
        assert_eq!(rig.write(2 * END - 1, &data), OK);
        assert_eq!(rig.write(END, &data), OK);
        assert_eq!(rig.write(2 * END, &data), IO_ERROR);
        tell(&rig, &backend, DISK_BYTES);
        resize(&mut backend, DISK_BYTES);
        assert_eq!(rig.write(END, &data), IO_ERROR);
        assert_eq!(rig.read(END - 1, 512).data, data);
        resize(&mut backend, 2 * DISK_BYTES);
        tell(&rig, &backend, 2 * DISK_BYTES);
        assert_eq!(rig.read(END, 512).data, [0; 512], "what was lost is back");
        rig.end();
    }
}

#[test]
fn nothing_of_a_page_cut_in_two_comes_back() {
    let mut backend = common::ram();
    let mut rig = rig(&backend, PollMode::Busy);
    assert_eq!(rig.write(8, &[7; 4096]), OK);
    // Eleven sectors: three of the second page stay.
    tell(&rig, &backend, 11 * 512);
    resize(&mut backend, 11 * 512);
    resize(&mut backend, DISK_BYTES);
    tell(&rig, &backend, DISK_BYTES);
    let read = rig.read(8, 4096).data;
    assert_eq!(read[..3 * 512], [7; 3 * 512]);
    assert_eq!(read[3 * 512..], [0; 5 * 512]);
    rig.end();
}

#[test]
fn a_worker_answers_a_smaller_size_when_its_backend_has_nothing_of_the_larger() {
    let backend = Deferred::new(64, true);
    let mut rig = rig(&backend, PollMode::Busy);
    rig.driver.read(END - 1, 512).unwrap();
    rig.publish();
    rig.until("the request in the backend", |_| backend.pending() == 1);
    // A larger one does not wait for it.
    tell(&rig, &backend, 2 * DISK_BYTES);
    let smaller = backend.resized(DISK_BYTES / 2).unwrap();
    let number = rig.worker.mailbox.post(Command::Resize(smaller)).unwrap();
    let soon = Instant::now() + Duration::from_millis(50);
    assert!(rig.worker.mailbox.wait(number, soon).is_err());
    backend.finish(0);
    let answer = rig.worker.mailbox.wait(number, Instant::now() + PATIENCE);
    assert!(matches!(answer, Ok(Answer::Resized)), "{answer:?}");
    assert_eq!(rig.wait().status, OK);
    rig.driver.read(END - 1, 512).unwrap();
    rig.publish();
    assert_eq!(rig.wait().status, IO_ERROR);
    rig.end();
}

#[test]
fn a_worker_without_a_queue_takes_on_the_size_for_the_next() {
    let mut backend = common::ram();
    let mut rig = rig(&backend, PollMode::Adaptive(Duration::ZERO));
    rig.stop();
    resize(&mut backend, 2 * DISK_BYTES);
    tell(&rig, &backend, 2 * DISK_BYTES);
    rig.start();
    assert_eq!(rig.write(END, &[1; 512]), OK);
    rig.end();
}

#[test]
fn a_file_has_the_length_of_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let memory = RamMemory::File(path.clone());
    let length = || path.metadata().unwrap().size();
    let mut backend = Ram::new(&options(), &memory, false).unwrap();
    assert_eq!(length(), DISK_BYTES);
    resize(&mut backend, 2 * DISK_BYTES);
    assert_eq!(length(), 2 * DISK_BYTES);
    resize(&mut backend, DISK_BYTES / 2 + 512);
    assert_eq!(length(), DISK_BYTES / 2 + 4096);
    drop(backend);
    let size_bytes = DISK_BYTES / 2 + 512;
    let smaller = DiskOptions {
        size_bytes,
        ..options()
    };
    Ram::new(&smaller, &memory, false).unwrap();
    let refused = Ram::new(&options(), &memory, false).unwrap_err();
    assert!(matches!(refused, DiskError::FileLength { .. }));
}

#[test]
fn memory_that_is_taken_at_once_is_all_there_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, vec![7; DISK_BYTES as usize]).unwrap();
    let taken = || path.metadata().unwrap().blocks() * 512;
    let mut backend = Ram::new(&options(), &RamMemory::File(path.clone()), true).unwrap();
    assert!(taken() >= DISK_BYTES);
    resize(&mut backend, 2 * DISK_BYTES);
    assert!(taken() >= 2 * DISK_BYTES);
    let mut rig = rig(&backend, PollMode::Busy);
    assert_eq!(rig.read(0, 512).data, [7; 512]);
    // The whole of it: struct virtio_blk_discard_write_zeroes.
    let sectors = (2 * DISK_BYTES / 512) as u32;
    let range = [&[0; 8][..], &sectors.to_le_bytes(), &[0; 4]].concat();
    let discarded = rig.request(VIRTIO_BLK_T_DISCARD, 0, &range, 0);
    assert_eq!(discarded.status, OK);
    rig.end();
    assert!(taken() >= 2 * DISK_BYTES);
}

#[test]
fn sizes_that_a_disk_cannot_have_are_refused() {
    let large = DiskOptions {
        block_bytes: 4096,
        ..options()
    };
    let ram = Ram::new(&large, &RamMemory::Sparse, false).unwrap();
    let refused = |size| ram.resized(size).unwrap_err();
    assert!(matches!(refused(0), DiskError::SizeZero));
    assert!(matches!(refused(4608), DiskError::SizeUnaligned { .. }));
    assert!(matches!(
        refused(1 << 60),
        DiskError::LargerThanMemory { .. }
    ));
    let null = pollux_dataplane::backend::Null::new(&options(), true).unwrap();
    assert!(matches!(
        null.resized(1 << 63),
        Err(DiskError::SizeLarge(_))
    ));
    let largest = null.resized((1 << 63) - 512).unwrap();
    assert_eq!(largest.size_bytes(), (1 << 63) - 512);
}
