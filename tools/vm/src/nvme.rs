//! Emulated NVMe controllers, and the IOMMU that user-space drivers of them need.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::qemu::fd_path;

/// Block sizes of a controller's namespaces, from namespace 1 on.
const BLOCK_BYTES: [u32; 2] = [512, 4096];
/// Size of each namespace. It takes memory only for what is written.
const NAMESPACE_BYTES: u64 = 256 << 20;

/// Slot of the first controller on the root bus: controllers are 0000:00:10.0, 0000:00:11.0 and so on.
const FIRST_SLOT: usize = 0x10;

/// Returns the empty namespaces of each controller.
pub(crate) fn namespaces(controllers: u32) -> io::Result<Vec<[File; BLOCK_BYTES.len()]>> {
    (0..controllers)
        .map(|_| Ok([namespace()?, namespace()?]))
        .collect()
}

fn namespace() -> io::Result<File> {
    let file = File::from(memfd_create(c"nvme", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(NAMESPACE_BYTES)?;
    Ok(file)
}

/// Returns the arguments of QEMU for the controllers and, if there are any, the IOMMU.
pub(crate) fn arguments<F: AsRawFd>(controllers: &[[F; BLOCK_BYTES.len()]]) -> Vec<String> {
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
        for (index, (file, block)) in namespaces.iter().zip(BLOCK_BYTES).enumerate() {
            let (nsid, path) = (index + 1, fd_path(file.as_raw_fd()));
            let node = format!("nvme{number}-{nsid}");
            // QEMU would lock the image by its path, which an anonymous file does not have.
            add(
                "-blockdev",
                format!("driver=file,node-name={node},filename={path},locking=off,discard=unmap"),
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
        let args = arguments(&namespaces(2).unwrap()).join(" ");
        assert!(args.starts_with("-device intel-iommu"), "{args}");
        for part in [
            "nvme,id=nvme0,serial=pollux0,addr=0x10",
            "nvme,id=nvme1,serial=pollux1,addr=0x11",
            "nvme-ns,bus=nvme1,drive=nvme1-1,nsid=1,logical_block_size=512,",
            "nvme-ns,bus=nvme1,drive=nvme1-2,nsid=2,logical_block_size=4096,",
        ] {
            assert!(args.contains(part), "{part}: {args}");
        }
        assert!(arguments::<File>(&[]).is_empty());
    }
}
