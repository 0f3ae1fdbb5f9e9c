//! Emulated NVMe controllers, by their addresses: the kernel numbers nodes in the order in which it finds them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{until, write};

const BUS: &str = "/sys/bus/pci";

fn device(address: &str) -> PathBuf {
    Path::new(BUS).join("devices").join(address)
}

/// Gives the controller at `address` to `driver`, or to the kernel's own where that is blank.
pub(crate) fn give_to(address: &str, driver: &str) {
    let device = device(address);
    // None has it when a daemon was killed on its way.
    if device.join("driver").exists() {
        write(device.join("driver/unbind"), address);
    }
    write(device.join("driver_override"), driver);
    write(Path::new(BUS).join("drivers_probe"), address);
}

/// Waits for the kernel's disk of namespace `nsid` of the controller at `address`.
pub(crate) fn namespace_node(address: &str, nsid: u32) -> PathBuf {
    until("the kernel's node", || {
        let controller = fs::read_dir(device(address).join("nvme"))
            .ok()?
            .next()?
            .ok()?;
        let mut entries = fs::read_dir(controller.path()).ok()?.flatten();
        let is_that = |entry: &fs::DirEntry| {
            let is_disk = entry.path().join("queue").exists();
            let found = fs::read_to_string(entry.path().join("nsid"));
            is_disk && found.is_ok_and(|found| found.trim() == nsid.to_string())
        };
        let node = Path::new("/dev").join(entries.find(is_that)?.file_name());
        node.exists().then_some(node)
    })
}
