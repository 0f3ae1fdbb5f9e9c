//! The block device of a namespace whose character device is known.
//!
//! Their names may differ: that of the block device begins with the number of the subsystem, and that of the character
//! device with the number of the controller, where there is a single path to the namespace
//! (drivers/nvme/host/{core,multipath}.c).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns the node of the block device beside `character`, of namespace `nsid`; none where the kernel has none.
pub(super) fn block_node(character: &File, nsid: u32) -> io::Result<Option<PathBuf>> {
    let number = character.metadata()?.rdev();
    let (major, minor) = (libc::major(number), libc::minor(number));
    let device = Path::new("/sys/dev/char").join(format!("{major}:{minor}"));
    Ok(beside(&device, nsid)?.map(|name| Path::new("/dev").join(name)))
}

/// Returns the name of the disk with `nsid` in the folder that `device` of sysfs is in: that of a controller or a
/// subsystem.
fn beside(device: &Path, nsid: u32) -> io::Result<Option<PathBuf>> {
    let device = device.canonicalize()?;
    let Some(folder) = device.parent() else {
        return Ok(None);
    };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_disk = entry.path().join("queue").exists();
        let found = fs::read_to_string(entry.path().join("nsid"));
        if is_disk && found.is_ok_and(|found| found.trim() == nsid.to_string()) {
            return Ok(Some(entry.file_name().into()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_namespace_whatever_it_is_called() {
        let sys = tempfile::tempdir().unwrap();
        let controller = sys.path().join("nvme2");
        for (disk, nsid) in [("nvme0n3", "1\n"), ("nvme0n4", "2\n")] {
            fs::create_dir_all(controller.join(disk).join("queue")).unwrap();
            fs::write(controller.join(disk).join("nsid"), nsid).unwrap();
        }
        let character = controller.join("ng2n4");
        fs::create_dir(&character).unwrap();
        let number = sys.path().join("241:3");
        std::os::unix::fs::symlink(&character, &number).unwrap();
        assert_eq!(beside(&number, 2).unwrap(), Some("nvme0n4".into()));
        assert_eq!(beside(&number, 3).unwrap(), None);
        assert!(beside(&sys.path().join("241:4"), 1).is_err());
    }

    #[test]
    fn a_character_device_of_another_kind_has_none() {
        let null = File::open("/dev/null").unwrap();
        assert_eq!(block_node(&null, 1).unwrap(), None);
    }
}
