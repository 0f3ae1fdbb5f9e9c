//! The driver's memory: from the kernel's IOTLB to a region table.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use pollux_dataplane::limits::REGIONS_MAX;
use pollux_dataplane::mem::{Access, Iova, Mapping, MappingError, Region, RegionTable, TableError};
use vduse::{Device, DeviceError, IotlbEntry};

/// Address space of VDUSE's own domain since Linux 6.4: 1 GiB for bounce buffers at most, and 128 MiB
/// for rings (drivers/vdpa/vdpa_user/vduse_dev.c).
const DOMAIN_BYTES: u64 = (1 << 30) + (128 << 20);

/// Address space of VDUSE's own domain before that.
const DOMAIN_BYTES_BEFORE_6_4: u64 = 128 << 20;

/// Why the driver's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemoryError {
    /// The kernel did not answer.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// mmap failed.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The regions make no sense.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The memory that a driver shares.
pub(super) enum Shared {
    /// VDUSE's own, where the offset in the file is the address: the disk is attached to this host, and its data is
    /// copied to and from a bounce region.
    Domain(OwnedFd),
    /// A guest's.
    Guest(Vec<Region>),
}

/// Finds all memory that the driver shares with `device` now.
///
/// # Errors
///
/// [`MemoryError`] when part of it cannot be had.
pub(super) fn find(device: &Device) -> Result<Shared, MemoryError> {
    let mut regions = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from
        && regions.len() <= REGIONS_MAX
        && let Some(entry) = device.iotlb_fd(start, u64::MAX)?
    {
        if is_domain(&entry.fd) {
            return Ok(Shared::Domain(entry.fd));
        }
        from = entry.last.checked_add(1);
        regions.push(region(entry)?);
    }
    Ok(Shared::Guest(regions))
}

/// Maps all memory that the driver shares with `device` now.
///
/// # Errors
///
/// [`MemoryError`] when part of it cannot be had.
pub(super) fn map(device: &Device) -> Result<RegionTable, MemoryError> {
    find(device)?.table(device, None)
}

impl Shared {
    /// Returns whether data goes through a bounce region.
    pub(super) fn is_bounced(&self) -> bool {
        matches!(self, Self::Domain(_))
    }

    /// Maps it, with `umem` in place of the bounce pages.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] when it cannot be mapped.
    pub(super) fn table(
        self,
        device: &Device,
        umem: Option<Region>,
    ) -> Result<RegionTable, MemoryError> {
        Ok(RegionTable::new(match self {
            Self::Guest(regions) => regions,
            Self::Domain(file) => {
                let rings_from = umem.as_ref().map_or(0, |umem| umem.last.0 + 1);
                let rings = domain(file, rings_from, device)?;
                umem.into_iter().chain([rings]).collect()
            }
        })?)
    }
}

/// Returns whether `file` is VDUSE's own memory, and not a guest's.
fn is_domain(file: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|target| target.to_string_lossy().contains("[vduse-domain]"))
}

/// Maps VDUSE's own memory at once, from address `first` on. Its bounce buffers are in no IOTLB entry before the
/// first request, and come page by page: the fault guard covers what is not there.
fn domain(file: OwnedFd, first: u64, device: &Device) -> Result<Region, MemoryError> {
    let resizable = vduse::sysfs::Sysfs::new(device.name())
        .bounce_size_bytes()
        .is_ok();
    let end = if resizable {
        DOMAIN_BYTES
    } else {
        DOMAIN_BYTES_BEFORE_6_4
    };
    let mapping = Mapping::new(file, first, end.saturating_sub(first), Access::ReadWrite)?;
    Ok(Region {
        first: Iova(first),
        last: Iova(end - 1),
        mapping: Arc::new(mapping),
    })
}

fn region(entry: IotlbEntry) -> Result<Region, MemoryError> {
    let access = match entry.access {
        vduse::Access::ReadOnly => Access::ReadOnly,
        vduse::Access::WriteOnly => Access::WriteOnly,
        vduse::Access::ReadWrite => Access::ReadWrite,
    };
    // The whole address space in one entry has 2^64 bytes; the kernel splits it in two.
    let bytes = (entry.last - entry.start).saturating_add(1);
    let mapping = Arc::new(Mapping::new(entry.fd, entry.offset, bytes, access)?);
    Ok(Region {
        first: Iova(entry.start),
        last: Iova(entry.last),
        mapping,
    })
}
