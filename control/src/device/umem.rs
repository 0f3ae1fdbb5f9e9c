//! Memory of the daemon in place of VDUSE's bounce pages: made beforehand, registered once there is a request.
//!
//! # Safety
//!
//! What is registered is mapped by an [`Umem`], which holds the mapping until the registration ends, and is reached
//! through region tables alone, as all memory that a driver shares.

#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Instant;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use pollux_dataplane::mem::{Access, Iova, Mapping, Region};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use utoipa::ToSchema;
use vduse::{Device, Name};

/// Size of a huge page.
const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// What a disk of this host has its data in, on its way between the driver and the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UmemKind {
    /// The kernel's own bounce pages.
    #[default]
    Off,
    /// Ordinary pages of the daemon.
    Anon,
    /// Huge pages of the daemon.
    Hugepage,
}

/// Memory for the bounce region of one device.
#[derive(Debug, Default)]
pub(super) struct Umem {
    kind: UmemKind,
    /// None when it is not wanted, or cannot be had.
    memory: Option<Arc<Mapping>>,
    bytes: u64,
    registered: bool,
    /// Why it is not what was asked for.
    reason: Option<String>,
}

impl Umem {
    /// Sets `bytes` bytes of memory aside for device `name`, of the next lesser kind if there is none of `kind`.
    pub(super) fn new(kind: UmemKind, bytes: u64, name: &Name) -> Self {
        let mut umem = Self {
            kind,
            memory: None,
            bytes,
            registered: false,
            reason: None,
        };
        if umem.kind == UmemKind::Hugepage {
            match map(
                bytes,
                HUGE_PAGE_BYTES,
                MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB,
            ) {
                Ok(mapping) => umem.memory = Some(mapping),
                Err(reason) => {
                    let pages = bytes.div_ceil(HUGE_PAGE_BYTES);
                    umem.kind = UmemKind::Anon;
                    umem.give_reason(
                        name,
                        format!(
                            "no {pages} huge pages of 2 MiB are free ({reason}), so ordinary ones are used: raise \
                             vm.nr_hugepages by {pages}"
                        ),
                    );
                }
            }
        }
        if umem.kind == UmemKind::Anon {
            match map(bytes, 4096, MFdFlags::empty()) {
                Ok(mapping) => umem.memory = Some(mapping),
                Err(reason) => umem.give_up(
                    name,
                    format!("no {bytes} bytes of memory for --umem: {reason}; use a smaller --bounce-size"),
                ),
            }
        }
        umem
    }

    /// Returns whether there is memory to be registered.
    pub(super) fn is_wanted(&self) -> bool {
        self.memory.is_some()
    }

    /// Puts the memory in place of the bounce pages of `device`, whose driver has made a request. No worker may have
    /// read any by then.
    pub(super) fn register(&mut self, device: &Device) {
        let Some(start) = self.memory.as_ref().and_then(|it| NonNull::new(it.start())) else {
            return;
        };
        let begun = Instant::now();
        // SAFETY: the mapping has that many bytes and stays until the registration ends, see the module's header.
        match unsafe { device.register_umem(start, 0, self.bytes) } {
            Ok(()) => {
                self.registered = true;
                let took_ms = begun.elapsed().as_secs_f64() * 1e3;
                let bytes = self.bytes;
                info!(device = %device.name(), "{bytes} bytes of memory were registered in {took_ms:.1} ms");
            }
            Err(error) => self.give_up(device.name(), error.to_string()),
        }
    }

    /// Goes back to bounce pages, so that the next driver finds none of this memory: since Linux 7.0 it has another
    /// address space, in which nothing is registered, while the registration in the old one is in the way.
    pub(super) fn release(&mut self, device: &Device) {
        if std::mem::take(&mut self.registered)
            && let Err(error) = device.deregister_umem(0, self.bytes)
        {
            warn!(device = %device.name(), "{error}");
        }
    }

    /// Returns the memory as what it is to the driver, if it is registered.
    pub(super) fn region(&self) -> Option<Region> {
        let mapping = self.memory.as_ref().filter(|_| self.registered)?;
        Some(Region {
            first: Iova(0),
            last: Iova(self.bytes - 1),
            mapping: Arc::clone(mapping),
        })
    }

    /// Returns what the driver's data goes through now.
    pub(super) fn kind(&self) -> UmemKind {
        match self.registered {
            true => self.kind,
            false => UmemKind::Off,
        }
    }

    /// Returns why that is not what was asked for.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Does without.
    fn give_up(&mut self, name: &Name, reason: String) {
        self.memory = None;
        self.give_reason(name, reason);
    }

    fn give_reason(&mut self, name: &Name, reason: String) {
        warn!(device = %name, "{reason}");
        self.reason = Some(reason);
    }
}

/// Maps `bytes` bytes of memory, in pages of `page_bytes`, that exist from here on.
fn map(bytes: u64, page_bytes: u64, flags: MFdFlags) -> Result<Arc<Mapping>, String> {
    let refuse = |errno: nix::Error| errno.desc().to_lowercase();
    let file = memfd_create("pollux-umem", MFdFlags::MFD_CLOEXEC | flags).map_err(refuse)?;
    let length = bytes.next_multiple_of(page_bytes);
    fallocate(&file, FallocateFlags::empty(), 0, length as i64).map_err(refuse)?;
    let mapping = Mapping::new(file, 0, bytes, Access::ReadWrite);
    mapping.map(Arc::new).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_no_region_before_it_is_registered() {
        let name = "d0".parse().unwrap();
        let umem = Umem::new(UmemKind::Anon, 1 << 20, &name);
        assert!(umem.is_wanted() && umem.reason().is_none());
        assert_eq!(
            (umem.region().is_none(), umem.kind()),
            (true, UmemKind::Off)
        );
        let registered = Umem {
            registered: true,
            ..umem
        };
        let region = registered.region().unwrap();
        assert_eq!((region.first, region.last), (Iova(0), Iova((1 << 20) - 1)));
        assert!(!Umem::new(UmemKind::Off, 1 << 20, &name).is_wanted());
    }

    #[test]
    fn what_cannot_be_had_is_done_without_and_told() {
        let name = "d0".parse().unwrap();
        // No length of a file. A large one would be set aside page by page.
        let umem = Umem::new(UmemKind::Hugepage, 1 << 63, &name);
        assert!(!umem.is_wanted());
        let reason = umem.reason().unwrap();
        assert!(reason.contains("--bounce-size"), "{reason}");
    }
}
