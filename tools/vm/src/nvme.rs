//! Emulated NVMe controllers, and the IOMMU that user-space drivers of them need.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Context, Error};
use crate::host;
use crate::machine::fd_path;

/// Block sizes of a controller's namespaces, from namespace 1 on.
const BLOCK_BYTES: [u32; 2] = [512, 4096];
/// Size of each namespace. It takes memory, or place in its image, only for what is written.
const NAMESPACE_BYTES: u64 = 256 << 20;

/// Slot of the first controller on the root bus: controllers are 0000:00:10.0, 0000:00:11.0 and so on.
const FIRST_SLOT: usize = 0x10;

/// What a namespace keeps its blocks in.
#[derive(Debug)]
pub(crate) enum Image {
    /// The host's memory: gone with the machine.
    Memory(File),
    /// A qcow2 image. QEMU writes down which clusters are allocated when the guest flushes: what it has not flushed
    /// is lost when QEMU is killed.
    File(PathBuf),
}

/// Returns the namespaces of each controller, empty ones where `folder` does not hold them.
pub(crate) fn namespaces(
    controllers: u32,
    folder: Option<&Path>,
) -> Result<Vec<[Image; BLOCK_BYTES.len()]>, Error> {
    let namespace = |controller, nsid| match folder {
        None => memory().context("memfd", "making an NVMe namespace"),
        Some(folder) => image(folder.join(format!("nvme{controller}-{nsid}.qcow2"))),
    };
    (0..controllers)
        .map(|controller| Ok([namespace(controller, 1)?, namespace(controller, 2)?]))
        .collect()
}

fn memory() -> io::Result<Image> {
    let file = File::from(memfd_create(c"nvme", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(NAMESPACE_BYTES)?;
    Ok(Image::Memory(file))
}

fn image(path: PathBuf) -> Result<Image, Error> {
    if !path.exists() {
        host::require(&[("qemu-img", "qemu-utils")])?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).context(folder, "making")?;
        // The smallest clusters, so that what one write allocates does not save its neighbours.
        let options = ["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k"];
        let mut command = host::command("qemu-img");
        command.args(options).arg(&path);
        host::output(command.arg(NAMESPACE_BYTES.to_string()))?;
    }
    Ok(Image::File(path))
}

impl Image {
    /// Returns the file to pass on to QEMU.
    pub(crate) fn inherited(&self) -> Option<&File> {
        match self {
            Self::Memory(file) => Some(file),
            Self::File(_) => None,
        }
    }

    /// Returns what describes it to QEMU's -blockdev.
    fn blockdev(&self) -> String {
        match self {
            // QEMU would lock the image by its path, which an anonymous file does not have.
            Self::Memory(file) => {
                let path = fd_path(file.as_raw_fd());
                format!("driver=file,filename={path},locking=off")
            }
            Self::File(path) => {
                let path = path.display().to_string().replace(',', ",,");
                format!("driver=qcow2,file.driver=file,file.discard=unmap,file.filename={path}")
            }
        }
    }
}

/// Returns the arguments of QEMU for the controllers and, if there are any, the IOMMU.
pub(crate) fn arguments(controllers: &[[Image; BLOCK_BYTES.len()]]) -> Vec<String> {
    let mut args = Vec::new();
    let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
    if !controllers.is_empty() {
        add("-device", "intel-iommu,intremap=on".to_owned());
    }
    for (number, namespaces) in controllers.iter().enumerate() {
        // The same addresses whatever else is on the bus.
        let slot = FIRST_SLOT + number;
        add(
            "-device",
            format!("nvme,id=nvme{number},serial=pollux{number},addr={slot:#x}"),
        );
        for (index, (image, block)) in namespaces.iter().zip(BLOCK_BYTES).enumerate() {
            let nsid = index + 1;
            let node = format!("nvme{number}-{nsid}");
            let image = image.blockdev();
            add(
                "-blockdev",
                format!("{image},node-name={node},discard=unmap"),
            );
            add(
                "-device",
                format!(
                    "nvme-ns,bus=nvme{number},drive={node},nsid={nsid},\
                     logical_block_size={block},physical_block_size={block}"
                ),
            );
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_has_namespaces_of_both_block_sizes() {
        let args = arguments(&namespaces(2, None).unwrap()).join(" ");
        assert!(args.starts_with("-device intel-iommu"), "{args}");
        for part in [
            "nvme,id=nvme0,serial=pollux0,addr=0x10",
            "nvme,id=nvme1,serial=pollux1,addr=0x11",
            "nvme-ns,bus=nvme1,drive=nvme1-1,nsid=1,logical_block_size=512,",
            "nvme-ns,bus=nvme1,drive=nvme1-2,nsid=2,logical_block_size=4096,",
        ] {
            assert!(args.contains(part), "{part}: {args}");
        }
        assert!(arguments(&[]).is_empty());
    }

    #[test]
    fn images_are_made_once_and_named_with_their_commas() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a,b");
        fs::create_dir(&folder).unwrap();
        for image in ["nvme0-1.qcow2", "nvme0-2.qcow2"] {
            fs::write(folder.join(image), "kept").unwrap();
        }
        let args = arguments(&namespaces(1, Some(&folder)).unwrap()).join(" ");
        assert!(
            args.contains("/a,,b/nvme0-2.qcow2,node-name=nvme0-2,"),
            "{args}"
        );
        let image = fs::read(folder.join("nvme0-1.qcow2")).unwrap();
        assert_eq!(image, b"kept");
    }
}
