//! Each way of keeping a disk on NVMe, with its place on the controllers, and one disk without a server.

use std::path::{Path, PathBuf};

use super::epoch::{BLOCK_BYTES, Writer};
use crate::guest::{give_to, namespace_node, run, until};

pub(super) const CONTROLLERS: u32 = 4;
/// The controller that is driven through VFIO.
const VFIO: &str = "0000:00:11.0";
pub(super) const FILE_SYSTEM_SERIAL: &str = "file-system";
/// Where the files are.
const MOUNTED: &str = "/mnt";
/// Writers of a disk, each with blocks of its own.
const WRITERS: u64 = 2;
/// Blocks of a writer: few enough that epochs overwrite what earlier ones flushed.
const BLOCKS: u64 = 8192;
/// As many as one table of an image maps: QEMU writes all tables down whenever it adds one.
const CONTROL_BLOCKS: u64 = 512;

/// A disk under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Block,
    Nvme,
    Passthrough,
    Vfio,
    File,
    FileCached,
    /// Written to straight and never flushed: what is lost of it shows that a cut loses something.
    Control,
}

impl Storage {
    pub(super) const ALL: [Self; 7] = [
        Self::Block,
        Self::Nvme,
        Self::Passthrough,
        Self::Vfio,
        Self::File,
        Self::FileCached,
        Self::Control,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Nvme => "nvme",
            Self::Passthrough => "nvme-passthrough",
            Self::Vfio => "nvme-vfio",
            Self::File => "file",
            Self::FileCached => "file-cached",
            Self::Control => "control",
        }
    }

    /// Returns its writers, the same for each `seed`.
    pub(super) fn writers(self, seed: u64) -> Vec<Writer> {
        let writer = |number: u64| Writer {
            name: format!("{}/{number}", self.name()),
            first_block: number * BLOCKS,
            blocks: match self {
                Self::Control => CONTROL_BLOCKS,
                _ => BLOCKS,
            },
            seed,
        };
        (0..WRITERS).map(writer).collect()
    }

    /// Returns where the kernel has what it is kept in.
    pub(super) fn kept_in(self) -> PathBuf {
        match self {
            Self::Block => namespace_node("0000:00:10.0", 1),
            Self::Passthrough => namespace_node("0000:00:10.0", 2),
            Self::Vfio => namespace_node(VFIO, 1),
            Self::Nvme => namespace_node("0000:00:12.0", 1),
            Self::File | Self::FileCached => Path::new(MOUNTED).join(self.name()),
            Self::Control => namespace_node("0000:00:13.0", 1),
        }
    }

    /// Returns the backend that serves it; None for the one that is not served.
    pub(super) fn backend(self) -> Option<String> {
        let path = || self.kept_in().display().to_string();
        Some(match self {
            Self::Block => format!("block,path={}", path()),
            Self::Nvme => format!("nvme,path={}", path()),
            Self::Passthrough => format!("nvme,path={}", path().replace("/nvme", "/ng")),
            Self::Vfio => format!("nvme-vfio,pci={VFIO}"),
            Self::File => format!("file,path={}", path()),
            Self::FileCached => format!("file,path={},direct=off", path()),
            Self::Control => return None,
        })
    }
}

/// Returns the names of the writers that flush.
pub(super) fn writers() -> Vec<String> {
    let all = Storage::ALL
        .into_iter()
        .flat_map(|storage| storage.writers(0));
    all.map(|writer| writer.name).collect()
}

/// Waits for the disk of the file system.
fn file_system_node() -> String {
    until("the file system's disk", || {
        let is_that = |disk: &std::fs::DirEntry| {
            let serial = std::fs::read_to_string(disk.path().join("serial"));
            serial.is_ok_and(|serial| serial.trim() == FILE_SYSTEM_SERIAL)
        };
        let mut disks = std::fs::read_dir("/sys/block").ok()?.flatten();
        let node = Path::new("/dev").join(disks.find(is_that)?.file_name());
        node.exists().then(|| node.display().to_string())
    })
}

pub(super) fn mount_files() {
    run("mount", &["-t", "ext4", &file_system_node(), MOUNTED]).succeeded();
}

/// Makes the file system and its files, and gives a controller away.
pub(super) fn make() {
    // As they are found by name, all have to be there before one is taken away.
    for storage in Storage::ALL {
        storage.kept_in();
    }
    let node = file_system_node();
    run("mkfs.ext4", &["-q", "-F", &node]).succeeded();
    mount_files();
    for storage in [Storage::File, Storage::FileCached] {
        let path = storage.kept_in();
        let file = std::fs::File::create(&path).expect("a file");
        let size = WRITERS * BLOCKS * BLOCK_BYTES as u64;
        // Without blocks in half of it: then a FLUSH has to save what the file system knows, too.
        file.set_len(size).expect("its size");
        nix::fcntl::posix_fallocate(&file, 0, (size / 2) as i64).expect("its blocks");
        file.sync_all().expect("a file on disk");
    }
    run("sync", &[]).succeeded();
    for module in ["vfio-pci", "vfio_iommu_type1"] {
        run("modprobe", &[module]).succeeded();
    }
    give_to(VFIO, "vfio-pci");
}
