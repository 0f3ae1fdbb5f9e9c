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

/// Maps all memory that the driver shares with `device` now.
///
/// # Errors
///
/// [`MemoryError`] when part of it cannot be had.
pub(super) fn map(device: &Device) -> Result<RegionTable, MemoryError> {
    let mut regions = Vec::new();
    let mut from = Some(0);
    while let Some(start) = from
        && regions.len() <= REGIONS_MAX
        && let Some(entry) = device.iotlb_fd(start, u64::MAX)?
    {
        if is_domain(&entry.fd) {
            return Ok(RegionTable::new(vec![domain(entry.fd, device)?])?);
        }
        from = entry.last.checked_add(1);
        regions.push(region(entry)?);
    }
    Ok(RegionTable::new(regions)?)
}

/// Returns whether `file` is VDUSE's own memory, where the offset is the address (the disk is attached
/// to this host) and not a guest's.
fn is_domain(file: &OwnedFd) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|target| target.to_string_lossy().contains("[vduse-domain]"))
}

/// Maps all of VDUSE's own memory at once. Its bounce buffers are in no IOTLB entry before the first
/// request, and come page by page: the fault guard covers what is not there.
fn domain(file: OwnedFd, device: &Device) -> Result<Region, MemoryError> {
    let resizable = vduse::sysfs::Sysfs::new(device.name())
        .bounce_size_bytes()
        .is_ok();
    let bytes = if resizable {
        DOMAIN_BYTES
    } else {
        DOMAIN_BYTES_BEFORE_6_4
    };
    let mapping = Arc::new(Mapping::new(file, 0, bytes, Access::ReadWrite)?);
    Ok(Region {
        first: Iova(0),
        last: Iova(bytes - 1),
        mapping,
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
