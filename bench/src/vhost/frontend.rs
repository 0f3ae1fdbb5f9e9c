//! A queue of a driver in this process, handed to a vhost-user daemon through the crate vhost: whatever the ring is
//! like, and with nothing in between once it is started.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use pollux_dataplane::ring::RingFeatures;
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_blk::{VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_RO};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vmm_sys_util::eventfd::EventFd;

use crate::loopback::Client;

/// Bytes of `struct virtio_blk_config` up to and with `blk_size`, and where that lies (VIRTIO 1.3, 5.2.4).
const CONFIG_BYTES: u32 = 24;
const BLK_SIZE_OFFSET: usize = 20;

/// Why the daemon has no queue of ours.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// A message.
    #[error("vhost-user: {step}: {reason}; look whether the daemon still runs")]
    Message {
        /// What was tried.
        step: &'static str,
        /// What came of it.
        reason: vhost::Error,
    },
    /// The ring.
    #[error("vhost-user: the daemon does not offer {0:?}; use another ring")]
    Features(RingFeatures),
    /// File descriptors, or its answer.
    #[error("vhost-user: {0}; look whether the daemon still runs")]
    Io(#[from] io::Error),
}

/// What is known of a disk before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Its size.
    pub(crate) disk_bytes: u64,
    /// What requests must be multiples of.
    pub(crate) block_bytes: u32,
    /// It takes no writes.
    pub(crate) read_only: bool,
}

/// A connection, with a client's queue started on it. Dropping it stops the queue.
pub(crate) struct Connection {
    frontend: Frontend,
    _call: EventFd,
}

/// Returns what was tried with what came of it.
fn at<T>(step: &'static str, done: vhost::Result<T>) -> Result<T, FrontendError> {
    done.map_err(|reason| FrontendError::Message { step, reason })
}

/// Connects, and agrees on the protocol. Returns what the device offers, too.
fn connect(socket: &Path) -> Result<(Frontend, u64), FrontendError> {
    let step = "connecting";
    let mut frontend = at(step, Frontend::connect(socket, 1))?;
    at(step, frontend.set_owner())?;
    let offered = at(step, frontend.get_features())?;
    let step = "agreeing on the protocol";
    let protocol = VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::REPLY_ACK;
    let known = at(step, frontend.get_protocol_features())? & protocol;
    at(step, frontend.set_protocol_features(known))?;
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    Ok((frontend, offered))
}

/// Asks the daemon behind `socket` for the properties of its disk.
pub(crate) fn capacity(socket: &Path) -> Result<Capacity, FrontendError> {
    let (mut frontend, offered) = connect(socket)?;
    let space = [0; CONFIG_BYTES as usize];
    let answer = frontend.get_config(0, CONFIG_BYTES, VhostUserConfigFlags::empty(), &space);
    let (_, config) = at("reading the size of the disk", answer)?;
    let short = || io::Error::other("a configuration space that is too short");
    let (sectors, _) = config.split_first_chunk().ok_or_else(short)?;
    let block = config.get(BLK_SIZE_OFFSET..).ok_or_else(short)?;
    let (block, _) = block.split_first_chunk().ok_or_else(short)?;
    let has = |feature: u32| offered & (1 << feature) != 0;
    Ok(Capacity {
        disk_bytes: u64::from_le_bytes(*sectors).saturating_mul(512),
        block_bytes: match has(VIRTIO_BLK_F_BLK_SIZE) {
            true => u32::from_le_bytes(*block).max(512),
            false => 512,
        },
        read_only: has(VIRTIO_BLK_F_RO),
    })
}

impl Connection {
    /// Has the daemon behind `socket` serve the queue of `client`, which kicks it from then on where it wants that.
    pub(crate) fn start(socket: &Path, client: &mut Client) -> Result<Self, FrontendError> {
        let (mut frontend, offered) = connect(socket)?;
        let queue = client.config();
        let missing = queue.features.bits() & !offered;
        if missing != 0 {
            let missing = RingFeatures::from_bits_truncate(missing);
            return Err(FrontendError::Features(missing));
        }
        let always = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | (1 << VIRTIO_F_VERSION_1)
            | (offered & (1 << VIRTIO_BLK_F_BLK_SIZE | 1 << VIRTIO_BLK_F_RO));
        let agreed = frontend.set_features(queue.features.bits() | always);
        at("agreeing on features", agreed)?;
        let (memory, start, bytes) = client.file()?;
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: start.0,
            memory_size: bytes,
            // Rings are named by the frontend's own addresses: they are the driver's, too.
            userspace_addr: start.0,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        at("sharing memory", frontend.set_mem_table(&[region]))?;
        let step = "starting the queue";
        at(step, frontend.set_vring_num(0, queue.size))?;
        at(step, frontend.set_vring_base(0, queue.next_avail))?;
        let areas = VringConfigData {
            queue_max_size: queue.size,
            queue_size: queue.size,
            flags: 0,
            desc_table_addr: queue.descriptor_area.0,
            used_ring_addr: queue.device_area.0,
            avail_ring_addr: queue.driver_area.0,
            log_addr: None,
        };
        at(step, frontend.set_vring_addr(0, &areas))?;
        let (kick, call) = (EventFd::new(0)?, EventFd::new(0)?);
        at(step, frontend.set_vring_kick(0, &kick))?;
        at(step, frontend.set_vring_call(0, &call))?;
        at(step, frontend.set_vring_enable(0, true))?;
        client.kick_through(kick);
        Ok(Self {
            frontend,
            _call: call,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It answers once the queue rests. One that does not is stopped by the end of the connection.
        let _ = self.frontend.get_vring_base(0);
    }
}
