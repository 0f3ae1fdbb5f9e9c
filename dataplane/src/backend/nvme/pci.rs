//! A PCI function in sysfs: whose it is, and how it changes hands (Documentation/ABI/testing/sysfs-bus-pci).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::NvmeError;
use super::note::{Note, Taken};

const BUS: &str = "/sys/bus/pci";
const VFIO: &str = "vfio-pci";
/// Mass storage, non-volatile memory, NVM Express.
const NVME_CLASS: &str = "0x010802";

/// A function that vfio-pci has. Dropping it gives it back to the driver that it was taken from.
#[derive(Debug)]
pub(super) struct PciFunction {
    pci: String,
    /// From whom it was taken.
    taken_from: Option<Driver>,
    /// The same for the next process.
    note: Note,
}

/// Who had a function.
#[derive(Debug)]
struct Driver(Option<String>);

impl PciFunction {
    /// Claims the NVMe controller at address `pci`, which vfio-pci must have unless it may be taken by force. What is
    /// taken is noted in `note`, and what a process took and noted there before it was killed is given back at the end.
    pub(super) fn claim(pci: &str, force: bool, note: Note) -> Result<Self, NvmeError> {
        if !is_address(pci) {
            return Err(NvmeError::Address(pci.into()));
        }
        let path = device(pci);
        let class = fs::read_to_string(path.join("class"));
        let class = class.map_err(|_| NvmeError::NoDevice(pci.into()))?;
        if class.trim() != NVME_CLASS {
            return Err(NvmeError::NotNvme {
                pci: pci.into(),
                class: class.trim().into(),
            });
        }
        check_group(pci)?;
        let mut function = Self {
            pci: pci.into(),
            taken_from: None,
            note,
        };
        let driver = driver_of(pci);
        match function.note.read().filter(Taken::is_left) {
            Some(taken) if taken.pci == pci => function.taken_from = Some(Driver(taken.driver)),
            _ => drop(give_back_noted(&function.note)),
        }
        let was_taken = function.taken_from.is_some();
        if driver.as_deref() != Some(VFIO) {
            match &driver {
                Some(driver) if !force => {
                    return Err(NvmeError::InUse {
                        pci: pci.into(),
                        driver: driver.clone(),
                    });
                }
                None if was_taken => {}
                None if !force => return Err(NvmeError::Unbound(pci.into())),
                _ => check_unused(pci)?,
            }
            let refuse = |reason| NvmeError::Bind {
                pci: pci.into(),
                reason,
            };
            if !was_taken {
                function
                    .note
                    .write(pci, driver.as_deref())
                    .map_err(refuse)?;
                // Given back from here on, whatever happens.
                function.taken_from = Some(Driver(driver));
            }
            function.bind().map_err(refuse)?;
        }
        Ok(function)
    }

    pub(super) fn address(&self) -> &str {
        &self.pci
    }

    /// Returns its folder in sysfs.
    pub(super) fn path(&self) -> PathBuf {
        device(&self.pci)
    }

    fn bind(&self) -> io::Result<()> {
        fs::write(self.path().join("driver_override"), VFIO)?;
        unbind(&self.pci)?;
        fs::write(Path::new(BUS).join("drivers_probe"), &self.pci)?;
        match driver_of(&self.pci).as_deref() {
            Some(VFIO) => Ok(()),
            _ => Err(io::Error::other("the driver is not loaded")),
        }
    }
}

impl Drop for PciFunction {
    fn drop(&mut self) {
        if let Some(Driver(driver)) = &self.taken_from {
            // Nobody is left to tell; the device stays with vfio-pci or without a driver.
            let _ = give_back(&self.pci, driver.as_deref());
            self.note.remove();
        }
    }
}

impl Taken {
    /// Returns whether it was left by a process that is gone, and nobody has taken it since.
    fn is_left(&self) -> bool {
        !is_open(&self.pci) && driver_of(&self.pci).is_none_or(|driver| driver == VFIO)
    }
}

/// Gives the controller back that `note` tells of, if it was left. Returns its address.
pub(super) fn give_back_noted(note: &Note) -> Option<String> {
    let taken = note.read()?;
    if is_open(&taken.pci) {
        // Its process lives, and would be waited for.
        return None;
    }
    let is_left = taken.is_left();
    if is_left {
        let _ = give_back(&taken.pci, taken.driver.as_deref());
    }
    note.remove();
    is_left.then_some(taken.pci)
}

/// Returns whether a process has the function open through VFIO: one at a time can open its group.
fn is_open(pci: &str) -> bool {
    let Ok(group) = fs::read_link(device(pci).join("iommu_group")) else {
        return false;
    };
    let Some(number) = group.file_name() else {
        return false;
    };
    let group = Path::new("/dev/vfio").join(number);
    let opened = OpenOptions::new().read(true).write(true).open(group);
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

fn give_back(pci: &str, driver: Option<&str>) -> io::Result<()> {
    fs::write(device(pci).join("driver_override"), "\n")?;
    unbind(pci)?;
    match driver {
        Some(driver) => {
            let driver = Path::new(BUS).join("drivers").join(driver);
            fs::write(driver.join("bind"), pci)
        }
        None => Ok(()),
    }
}

fn unbind(pci: &str) -> io::Result<()> {
    match driver_of(pci) {
        Some(_) => fs::write(device(pci).join("driver/unbind"), pci),
        None => Ok(()),
    }
}

/// Returns whether `pci` may be an address.
pub(super) fn is_address(pci: &str) -> bool {
    let well_formed = |c: char| c.is_ascii_hexdigit() || ":.".contains(c);
    pci.len() >= 12 && pci.chars().all(well_formed)
}

fn device(pci: &str) -> PathBuf {
    Path::new(BUS).join("devices").join(pci)
}

/// Returns the name of the driver that has the function.
fn driver_of(pci: &str) -> Option<String> {
    let driver = fs::read_link(device(pci).join("driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// Refuses a function whose IOMMU group others use: they could be reached through it.
fn check_group(pci: &str) -> Result<(), NvmeError> {
    let group = fs::read_dir(device(pci).join("iommu_group/devices"));
    let group = group.map_err(|_| NvmeError::NoIommu(pci.into()))?;
    for other in group.flatten() {
        let other = other.file_name().to_string_lossy().into_owned();
        match driver_of(&other) {
            // A bridge forwards, and does nothing by itself.
            Some(driver) if other != pci && ![VFIO, "pcieport"].contains(&driver.as_str()) => {
                return Err(NvmeError::Group {
                    pci: pci.into(),
                    other,
                    driver,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a controller one of whose disks is mounted, or is part of something.
fn check_unused(pci: &str) -> Result<(), NvmeError> {
    let folders = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    for controller in folders(device(pci).join("nvme")) {
        for entry in folders(controller.path()) {
            let name = disk_name(&entry.file_name().to_string_lossy());
            if !Path::new("/sys/block").join(&name).exists() {
                continue;
            }
            let node = Path::new("/dev").join(&name);
            let mut options = OpenOptions::new();
            let opened = options.read(true).custom_flags(libc::O_EXCL).open(&node);
            if opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {
                return Err(NvmeError::Held {
                    pci: pci.into(),
                    node: node.display().to_string(),
                });
            }
        }
    }
    Ok(())
}

/// Returns the name of the disk that `path`, a name too, leads to: where a disk may have several paths, `nvme0c1n1` is one of
/// `nvme0n1`.
fn disk_name(path: &str) -> String {
    match path.split_once('c') {
        Some((subsystem, rest)) => {
            let namespace = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{subsystem}{namespace}")
        }
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_disks() {
        assert_eq!(disk_name("nvme0n1"), "nvme0n1");
        assert_eq!(disk_name("nvme12c3n4"), "nvme12n4");
    }

    #[test]
    fn what_is_no_controller_is_named() {
        let error = |pci: &str| {
            let claimed = PciFunction::claim(pci, false, Note::at(None));
            claimed.expect_err("nothing to claim").to_string()
        };
        for bad in ["", "nvme0", "../../0000:00:1", "00:10.0"] {
            assert!(error(bad).contains("is not an address"), "{bad}");
        }
        assert!(error("ffff:ff:1f.7").contains("there is no PCI device"));
    }
}
