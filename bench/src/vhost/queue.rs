//! One virtqueue of a device, driven by virtio-driver, with its data buffers.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::memfd::{MFdFlags, memfd_create};
use virtio_driver::{
    QueueNotifier, VhostUser, VhostVdpa, VirtioBlkQueue, VirtioBlkTransport, VirtioFeatureFlags,
};
use vm_memory::{FileOffset, MmapRegion};

use super::closed_loop::{Done, Queue};
use super::{VhostError, device_error, queue_size};
use crate::transport::Transport;

/// Reads are the only requests. Fields are dropped from first to last: the device is given up before
/// its memory is.
pub(super) struct VhostQueue {
    queue: VirtioBlkQueue<'static, u16>,
    notifier: Box<dyn QueueNotifier>,
    _transport: Box<VirtioBlkTransport>,
    buffers: MmapRegion,
    block_bytes: usize,
    iodepth: usize,
}

impl VhostQueue {
    /// Opens the device and starts its first queue, with a buffer for each of `iodepth` reads.
    pub(super) fn open(
        transport: Transport,
        node: &Path,
        iodepth: u32,
        block_bytes: u32,
    ) -> Result<Self, VhostError> {
        let at = |step| move |reason: io::Error| device_error(node, step, &reason);
        // The crate's error would not tell this one clearly.
        fs::metadata(node).map_err(at("opening"))?;
        // With event indexes the crate has the memory barrier that its flags lack.
        let features = VirtioFeatureFlags::VERSION_1 | VirtioFeatureFlags::RING_EVENT_IDX;
        let path = node.to_string_lossy();
        let negotiated: io::Result<Box<VirtioBlkTransport>> = match transport {
            Transport::VhostUser => {
                VhostUser::new(&path, features.bits()).map(|it| Box::new(it) as _)
            }
            _ => VhostVdpa::with_path(&path, features.bits())
                .map(|it| Box::new(it) as _)
                .map_err(|error| io::Error::other(format!("{error:?}"))),
        };
        let mut transport = negotiated.map_err(at("negotiating"))?;
        let (iodepth, block_bytes) = (iodepth as usize, block_bytes as usize);
        let buffers = shared_memory(iodepth * block_bytes).map_err(at("memory for reads"))?;
        let fd = buffers.file_offset().map_or(-1, |it| it.file().as_raw_fd());
        transport
            .map_mem_region(buffers.as_ptr() as usize, buffers.size(), fd, 0)
            .map_err(at("mapping memory"))?;
        let entries = queue_size(iodepth as u32);
        let queue = VirtioBlkQueue::setup_queues(&mut *transport, 1, entries)
            .and_then(|mut queues| queues.pop().ok_or_else(|| io::Error::other("no queue")));
        let mut queue = queue.map_err(at("starting the queue"))?;
        queue.set_used_notif_enabled(false);
        Ok(Self {
            queue,
            notifier: transport.get_submission_notifier(0),
            _transport: transport,
            buffers,
            block_bytes,
            iodepth,
        })
    }
}

/// Memory is shared by file, so it must have one.
fn shared_memory(bytes: usize) -> io::Result<MmapRegion> {
    let file = File::from(memfd_create("reads", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(bytes as u64)?;
    MmapRegion::from_file(FileOffset::new(file, 0), bytes).map_err(io::Error::other)
}

impl Queue for VhostQueue {
    fn read(&mut self, slot: u16, offset: u64) -> io::Result<()> {
        let slot_index = usize::from(slot);
        assert!(slot_index < self.iodepth, "slot {slot} of {}", self.iodepth);
        let bytes = self.block_bytes;
        // SAFETY: `buffers` has `iodepth` blocks, and the slot was checked against that.
        let buffer = unsafe { self.buffers.as_ptr().add(slot_index * bytes) };
        // SAFETY: the buffer is mapped until after the device is given up, and nothing here refers to
        // its contents, which the device writes at any time.
        unsafe { self.queue.read_raw(offset, buffer, bytes, slot) }
    }

    fn kick(&mut self) -> io::Result<()> {
        if self.queue.avail_notif_needed() {
            self.notifier.notify()?;
        }
        Ok(())
    }

    fn completed(&mut self, done: &mut Vec<Done>) {
        // Not `extend`: it asks the crate for the number of those that are left, once for each, which is two
        // divisions.
        for completion in self.queue.completions() {
            done.push(Done {
                slot: completion.context,
                is_error: completion.ret != 0,
            });
        }
    }
}
