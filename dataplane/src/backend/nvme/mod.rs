//! A namespace of an NVMe controller that this process drives itself, through VFIO.
//!
//! Each worker has its own queue pair and polls it, without a system call or an interrupt. The controller takes data
//! from where the driver has it, if that memory can be reached by it ([`driver_memory`]), and otherwise from pages of the
//! queue ([`bounce`]).

mod admin;
mod bounce;
pub(super) mod command;
mod completion;
mod controller;
mod dma;
mod driver_memory;
mod error;
mod event;
pub(super) mod identify;
#[cfg(test)]
mod model;
mod note;
mod pci;
mod prp;
mod queue;
mod queue_pair;
mod registers;
mod request;
pub(super) mod status;
mod target;
#[cfg(test)]
mod tests;
mod vfio;

use std::path::Path;
use std::sync::Arc;

pub use error::NvmeError;
pub use event::NvmeEvent;
pub use queue::NvmeQueue;

use super::memory_disk::serial;
use super::{Backend, DiskError};
use crate::blk::{Geometry, SECTOR_BYTES};
use controller::Controller;
use dma::AddressSpace;
use note::Note;
use pci::PciFunction;
use registers::Registers;
use target::Target;
use vfio::Vfio;

/// Which namespace, and how it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvmeOptions {
    /// Address of the controller as in sysfs: `0000:00:10.0`.
    pub pci: String,
    /// The namespace, from 1 on.
    pub nsid: u32,
    /// Refuse writes.
    pub read_only: bool,
    /// The answer to GET_ID, at most 20 bytes; the controller's own when it is empty.
    pub serial: String,
    /// Take the controller from the driver that it has, and give it back at the end.
    pub force_unbind: bool,
}

/// The nvme-vfio backend. The controller is shut down when it and all its queues are dropped.
#[derive(Debug)]
pub struct Nvme {
    geometry: Geometry,
    target: Target,
    controller: Arc<Controller>,
}

impl Nvme {
    /// Resets the controller and examines the namespace. A controller that is taken from its driver is noted in the file at
    /// `note` until it is given back: should this process be killed, the next one that is told of the file does it.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when the controller is not to be had, or the namespace cannot be served.
    pub fn new(options: &NvmeOptions, note: Option<&Path>) -> Result<Self, DiskError> {
        let (pci, force) = (&options.pci, options.force_unbind);
        let function = PciFunction::claim(pci, force, Note::at(note))?;
        let (vfio, bar) = Vfio::open(function)?;
        let registers = Registers::new(bar).map_err(|_| NvmeError::Registers)?;
        let space = Arc::new(AddressSpace::new(Box::new(vfio)));
        let controller = Controller::new(registers, space)?;
        Self::over(controller, options)
    }

    /// Returns what the controller has told of, each event once. If it has, its log is awaited, with a bound; workers
    /// use the same queue only to give up or begin anew.
    pub fn event(&self) -> Option<NvmeEvent> {
        self.controller.event()
    }

    fn over(controller: Controller, options: &NvmeOptions) -> Result<Self, DiskError> {
        let nsid = options.nsid;
        let (identity, namespace) = controller.identify(nsid)?;
        if ![512, 1024, 2048, 4096].contains(&namespace.block_bytes) {
            return Err(NvmeError::BlockSize(namespace.block_bytes).into());
        }
        if namespace.metadata_bytes > 0 {
            return Err(NvmeError::Metadata(namespace.metadata_bytes).into());
        }
        if namespace.write_protected && !options.read_only {
            return Err(NvmeError::WriteProtected(nsid).into());
        }
        let (mut geometry, limits) = identify::disk(&identity, &namespace);
        geometry.read_only = options.read_only;
        if !options.serial.is_empty() {
            geometry.serial = serial(&options.serial)?;
        }
        let target = Target {
            nsid,
            block_bytes: geometry.block_bytes,
            limits,
            volatile_cache: geometry.volatile_cache,
        };
        Ok(Self {
            geometry,
            target,
            controller: Arc::new(controller),
        })
    }
}

/// Gives the controller back to its driver that the file at `note` tells of, as [`Nvme::new`] left it in a process that was
/// killed. Nobody may use it any more. Returns its address, if there was one.
pub fn give_back_controller(note: &Path) -> Option<String> {
    pci::give_back_noted(&Note::at(Some(note)))
}

impl Backend for Nvme {
    type Queue = NvmeQueue;

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn open_queue(&self) -> std::io::Result<NvmeQueue> {
        let queue = NvmeQueue::open(Arc::clone(&self.controller), self.target);
        queue.map_err(std::io::Error::other)
    }

    /// A namespace has the size that it has, which may be another than before.
    fn resized(&self, asked: u64) -> Result<Geometry, DiskError> {
        let nsid = self.target.nsid;
        let now = self.controller.namespace(nsid)?;
        if now.block_bytes != u64::from(self.target.block_bytes) || now.metadata_bytes > 0 {
            return Err(NvmeError::Formatted(nsid).into());
        }
        let size_bytes = now.blocks.saturating_mul(now.block_bytes);
        if size_bytes != asked {
            return Err(NvmeError::Size {
                nsid,
                size_bytes,
                asked,
            }
            .into());
        }
        Ok(Geometry {
            capacity_sectors: size_bytes / SECTOR_BYTES,
            ..self.geometry.clone()
        })
    }

    fn resize(&mut self, geometry: Geometry) -> Result<(), DiskError> {
        self.geometry = geometry;
        Ok(())
    }
}
