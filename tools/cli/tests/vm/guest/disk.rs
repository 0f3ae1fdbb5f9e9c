//! A disk of this host, through sysfs.

use std::path::{Path, PathBuf};

use super::{read, run, until};

/// The disk `/dev/vdX`.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    node: PathBuf,
    sysfs: PathBuf,
}

impl Disk {
    pub(crate) fn new(node: PathBuf) -> Self {
        let name = node.file_name().expect("a node has a name");
        let sysfs = Path::new("/sys/block").join(name);
        assert!(sysfs.exists(), "{} is no disk", node.display());
        Self { node, sysfs }
    }

    /// Returns the path of its node.
    pub(crate) fn node(&self) -> &str {
        self.node.to_str().expect("node names are ASCII")
    }

    /// Returns the attribute at `path` in its sysfs folder.
    pub(crate) fn attribute(&self, path: &str) -> String {
        read(self.sysfs.join(path))
    }

    /// Returns its size in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        let sectors: u64 = self.attribute("size").parse().expect("a number");
        512 * sectors
    }

    /// Returns how many hardware queues it has.
    pub(crate) fn hardware_queues(&self) -> usize {
        let queues = std::fs::read_dir(self.sysfs.join("mq"));
        queues.expect("a multi-queue disk").count()
    }

    /// Waits until something is asked of it.
    pub(crate) fn until_busy(&self) {
        until("requests of the disk", || {
            let counts = self.attribute("inflight");
            counts
                .split_whitespace()
                .any(|count| count != "0")
                .then_some(())
        });
    }

    /// Opens its node.
    pub(crate) fn open(&self, writable: bool) -> std::io::Result<std::fs::File> {
        std::fs::OpenOptions::new()
            .read(true)
            .write(writable)
            .open(&self.node)
    }

    /// Mounts it at `folder`, which is made, as `kind`.
    pub(crate) fn mount(&self, kind: &str, folder: &Path) -> Mounted {
        std::fs::create_dir_all(folder).expect("a folder to mount at");
        let at = folder.to_str().expect("an ASCII path");
        run("mount", &["-t", kind, self.node(), at]).succeeded();
        Mounted(folder.to_owned())
    }
}

/// A mounted file system. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.0.to_string_lossy();
        let unmounted = run("umount", &[&at]);
        if !std::thread::panicking() {
            unmounted.succeeded();
        }
    }
}
