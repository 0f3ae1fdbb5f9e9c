//! A namespace of an NVMe controller that the kernel drives, its commands passed through (`/dev/ng0n1`): no block layer, no
//! page cache. Whatever reaches the controller works, over PCI Express or a network.

mod block_node;
mod command;
mod error;
mod ioctl;
mod target;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_node::block_node;
pub use error::PassthroughError;
use target::Namespace;

use super::file::claim::Claim;
use super::memory_disk::serial;
use super::nvme::identify;
use super::uring::{Limits, UringQueue};
use super::{Backend, DiskError, FileOptions};
use crate::blk::Geometry;

/// Data of one command, at most, whatever controller and kernel would take: as much as keeps any device busy.
const PART_BYTES_MAX: u64 = 256 << 10;

/// The same where the kernel does not tell what it takes.
const PART_BYTES_SURE: u64 = 64 << 10;

/// Buffers of one command, at most. Each may take a page more than it has bytes for.
const PART_PIECES_MAX: usize = 32;

/// The kernel copies what begins elsewhere.
const ALIGN_BYTES: usize = 4;

/// A queue of the passthrough backend.
pub type PassthroughQueue = UringQueue<Namespace>;

/// The passthrough backend.
#[derive(Debug)]
pub struct Passthrough {
    options: FileOptions,
    geometry: Geometry,
    file: File,
    namespace: Arc<Namespace>,
    /// The block device of the same namespace.
    block_node: PathBuf,
    claim: Claim,
}

impl Passthrough {
    /// Returns whether `path` is a namespace's character device.
    pub fn is_for(path: &Path) -> bool {
        let found = std::fs::metadata(path);
        found.is_ok_and(|found| found.file_type().is_char_device())
    }

    /// Returns the block device of the namespace at `path`, if that is a namespace's character device.
    pub fn block_node_of(path: &Path) -> Option<PathBuf> {
        let file = Self::is_for(path).then(|| File::open(path).ok())??;
        block_node(&file, ioctl::nsid(&file).ok()?).ok()?
    }

    /// Opens the namespace and asks what it is like. It is not [claimed](Self::claim) yet.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when it is not there, or cannot be served.
    pub fn new(options: &FileOptions) -> Result<Self, DiskError> {
        let path = &options.path;
        let refuse = |reason| PassthroughError::Open {
            path: path.clone(),
            reason,
        };
        let mut open = OpenOptions::new();
        let open = open.read(true).write(!options.read_only);
        let file = open
            .custom_flags(libc::O_CLOEXEC)
            .open(path)
            .map_err(refuse)?;
        let block_node = match ioctl::nsid(&file) {
            Ok(nsid) => block_node(&file, nsid).map_err(|reason| PassthroughError::Examine {
                path: path.clone(),
                reason,
            })?,
            // Nothing that knows of namespaces.
            Err(_) => None,
        };
        let block_node = block_node.ok_or_else(|| PassthroughError::Name { path: path.clone() })?;
        let (geometry, mut namespace) = examine(&file, options)?;
        // With an IOMMU it is less than the controller takes.
        let kernel_bytes_max = queue_limit(&block_node, "max_hw_sectors_kb").map(|kib| kib << 10);
        let part_bytes_max = &mut namespace.limits.part_bytes_max;
        *part_bytes_max = kernel_bytes_max
            .unwrap_or(PART_BYTES_SURE)
            .min(*part_bytes_max);
        if options.ring.polled && queue_limit(&block_node, "io_poll") != Some(1) {
            return Err(PassthroughError::NoPoll { path: path.clone() }.into());
        }
        Ok(Self {
            options: options.clone(),
            geometry,
            file,
            namespace: Arc::new(namespace),
            block_node,
            claim: Claim::default(),
        })
    }

    /// Takes the namespace for this process alone, before anything is read or written.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when its block device is mounted or in use.
    pub fn claim(&self) -> Result<(), DiskError> {
        let claimed = self
            .claim
            .take_device(&self.block_node, self.options.read_only);
        claimed.map_err(Into::into)
    }

    /// Lets go of it, for another process that serves it from here on.
    pub fn release(&self) {
        self.claim.release();
    }
}

/// Returns what the kernel tells of the queue of `block_node` as `attribute`.
fn queue_limit(block_node: &Path, attribute: &str) -> Option<u64> {
    let queue = Path::new("/sys/block")
        .join(block_node.file_name()?)
        .join("queue");
    let text = std::fs::read_to_string(queue.join(attribute)).ok()?;
    text.trim().parse().ok()
}

/// Asks controller and namespace what they are like.
fn examine(file: &File, options: &FileOptions) -> Result<(Geometry, Namespace), DiskError> {
    let path = || options.path.clone();
    let refuse = |reason| PassthroughError::Examine {
        path: path(),
        reason,
    };
    let nsid = ioctl::nsid(file).map_err(refuse)?;
    let ask = |cns, nsid| ioctl::identify(file, cns, nsid);
    let controller = ask(identify::CNS_CONTROLLER, 0).map_err(refuse)?;
    // Not every controller has it.
    let nvm = ask(identify::CNS_NVM_CONTROLLER, 0).ok();
    let controller = identify::Controller::parse(&controller, nvm.as_deref());
    let namespace = ask(identify::CNS_NAMESPACE, nsid).map_err(refuse)?;
    let namespace = identify::Namespace::parse(&namespace);
    let block_bytes = namespace.block_bytes;
    if ![512, 1024, 2048, 4096].contains(&block_bytes) || namespace.metadata_bytes > 0 {
        return Err(PassthroughError::Format {
            path: path(),
            block_bytes,
            metadata_bytes: namespace.metadata_bytes,
        }
        .into());
    }
    if namespace.write_protected && !options.read_only {
        return Err(PassthroughError::ReadOnly { path: path() }.into());
    }
    let (mut geometry, limits) = identify::disk(&controller, &namespace);
    geometry.read_only = options.read_only;
    if let Some(asked) = options
        .block_bytes
        .filter(|asked| u64::from(*asked) != block_bytes)
    {
        return Err(PassthroughError::BlockSize {
            path: path(),
            asked,
            block_bytes,
        }
        .into());
    }
    if !options.serial.is_empty() {
        geometry.serial = serial(&options.serial)?;
    }
    let part_bytes_max = limits.data_bytes_max.min(PART_BYTES_MAX);
    let namespace = Namespace {
        nsid,
        block_bytes,
        has_volatile_cache: geometry.volatile_cache,
        limits: Limits {
            align_bytes: ALIGN_BYTES,
            block_bytes: block_bytes as usize,
            part_bytes_max: part_bytes_max.max(block_bytes),
            part_pieces_max: PART_PIECES_MAX,
        },
    };
    Ok((geometry, namespace))
}

impl Backend for Passthrough {
    type Queue = PassthroughQueue;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> io::Result<PassthroughQueue> {
        let namespace = Arc::clone(&self.namespace);
        PassthroughQueue::new(namespace, self.file.as_fd(), self.options.ring)
    }

    /// A namespace has the size that it has got by now.
    fn resized(&self, size_bytes: u64) -> Result<Geometry, DiskError> {
        let (now, _) = examine(&self.file, &self.options)?;
        if now.size_bytes() == size_bytes {
            return Ok(Geometry {
                capacity_sectors: now.capacity_sectors,
                ..self.geometry.clone()
            });
        }
        Err(PassthroughError::Size {
            path: self.options.path.clone(),
            size_bytes: now.size_bytes(),
            asked: size_bytes,
        }
        .into())
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        self.geometry = geometry;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_for_character_devices() {
        assert!(Passthrough::is_for(Path::new("/dev/null")));
        assert!(!Passthrough::is_for(Path::new("/dev")));
    }
}
