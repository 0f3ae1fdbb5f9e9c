//! The way to a controller through VFIO: its registers, and what memory it reaches (include/uapi/linux/vfio.h).
//!
//! # Safety
//!
//! What is mapped for the device is a [`Mapping`], which its `Mapped` holds until it is unmapped. As memory that a
//! driver may write at any time it is touched through segments and atomics alone, never by reference.

#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use vfio_ioctls::{VfioContainer, VfioDevice, VfioOps};

use super::NvmeError;
use super::dma::Bus;
use super::pci::PciFunction;
use crate::mem::{Access, Iova, Mapping, Region, RegionTable};

/// Indexes of regions, as `VFIO_PCI_BAR0_REGION_INDEX` and `VFIO_PCI_CONFIG_REGION_INDEX`.
const BAR_0: u32 = 0;
const CONFIGURATION: u32 = 7;

/// The command register of PCI: memory is decoded, and the function may be a bus master.
const COMMAND: u64 = 4;
const MEMORY_SPACE: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;

/// How long a controller is left alone between two looks at it.
const PAUSE: Duration = Duration::from_micros(50);

/// A controller opened through VFIO. Nobody else can open it meanwhile.
pub(super) struct Vfio {
    // Dropped in this order: the function changes hands once nobody has it open.
    device: VfioDevice,
    container: Arc<VfioContainer>,
    function: PciFunction,
}

impl Vfio {
    /// Opens `function`. Returns it and the registers in its BAR 0, from address 0 on.
    pub(super) fn open(function: PciFunction) -> Result<(Self, RegionTable), NvmeError> {
        let refuse = |reason: String| NvmeError::Vfio {
            pci: function.address().into(),
            reason,
        };
        let container = VfioContainer::new(None).map_err(|e| refuse(e.to_string()))?;
        let container = Arc::new(container);
        let ops: Arc<dyn VfioOps> = container.clone();
        let device = VfioDevice::new(&function.path(), ops, false);
        let device = device.map_err(|e| refuse(e.to_string()))?;
        // SAFETY: the device keeps its descriptor open, and outlives this borrow of it.
        let file = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
        let file = file.try_clone_to_owned();
        let file = file.map_err(|e| refuse(e.to_string()))?;
        let (offset, bytes) = (
            device.get_region_offset(BAR_0),
            device.get_region_size(BAR_0),
        );
        let mapping = Mapping::new(file, offset, bytes, Access::ReadWrite);
        let bar = Region {
            first: Iova(0),
            last: Iova(bytes.saturating_sub(1)),
            mapping: Arc::new(mapping.map_err(|e| refuse(e.to_string()))?),
        };
        let bar = RegionTable::new(vec![bar]).map_err(|e| refuse(e.to_string()))?;
        let vfio = Self {
            device,
            container,
            function,
        };
        Ok((vfio, bar))
    }
}

impl Bus for Vfio {
    fn map(&self, address: u64, mapping: &Arc<Mapping>) -> std::io::Result<()> {
        // SAFETY: the mapping has that many bytes and stays until it is unmapped here, see the module's header.
        let mapped = unsafe {
            self.container
                .vfio_dma_map(address, mapping.len(), mapping.start())
        };
        mapped.map_err(std::io::Error::other)
    }

    fn unmap(&self, address: u64, bytes: u64) {
        // It was mapped with just this length, which is all that the kernel asks for.
        let _ = self.container.vfio_dma_unmap(address, bytes as usize);
    }

    fn set_master(&self, master: bool) {
        let mut bytes = [0; 2];
        self.device.region_read(CONFIGURATION, &mut bytes, COMMAND);
        let rest = u16::from_le_bytes(bytes) & !BUS_MASTER;
        let wanted = rest | MEMORY_SPACE | if master { BUS_MASTER } else { 0 };
        let bytes = wanted.to_le_bytes();
        self.device.region_write(CONFIGURATION, &bytes, COMMAND);
    }

    fn pause(&self) {
        std::thread::sleep(PAUSE);
    }
}

impl fmt::Debug for Vfio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Vfio");
        shown
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}
