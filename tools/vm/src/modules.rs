//! The kernel's modules: which files one needs, read from depmod's indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use crate::error::{Context, Error};
use crate::kernel::Kernel;

/// Loaded at boot in every guest.
pub(crate) const LOADED: [&str; 5] = [
    "vduse",
    "virtio_vdpa",
    "vhost_vdpa",
    "virtio_blk",
    "configfs",
];

/// Present in every guest for `modprobe`, where the kernel has them.
pub(crate) const PRESENT: &[&str] = &[
    "xfs",
    "null_blk",
    "ublk_drv",
    "brd",
    "loop",
    "nbd",
    "nvmet",
    "nvmet_tcp",
    "nvme_loop",
    "nvme_tcp",
    "vfio_pci",
    "vfio_iommu_type1",
    "iommufd",
    "dm_mod",
    "dm_flakey",
    "dm_delay",
    "dm_log_writes",
    "scsi_debug",
    "crc32c_intel",
    "crc32c",
    "libcrc32c",
];

/// The modules of one kernel.
#[derive(Debug)]
pub(crate) struct Modules {
    release: String,
    /// File below lib/modules/RELEASE, and the files it depends on, by module name.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// Modules that are to be there before or after, by module name.
    soft: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Reads the kernel's indexes.
    pub(crate) fn of(kernel: &Kernel) -> Result<Self, Error> {
        let dir = kernel.modules();
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).context(&path, "reading")
        };
        Ok(Self {
            release: kernel.release.clone(),
            files: parse_dep(&read("modules.dep")?),
            soft: parse_softdep(&read("modules.softdep")?),
            builtin: read("modules.builtin")?.lines().map(module_name).collect(),
        })
    }

    /// Returns the files of the named modules and of all they depend on.
    ///
    /// # Errors
    /// When the kernel neither has one of the modules nor has it built in.
    pub(crate) fn needed(&self, names: &[&str]) -> Result<BTreeSet<String>, Error> {
        let mut files = BTreeSet::new();
        for name in names {
            let name = module_name(name);
            if !self.builtin.contains(&name) && !self.add(&name, &mut files) {
                return Err(Error::NoModule {
                    name,
                    kernel: self.release.clone(),
                });
            }
        }
        Ok(files)
    }

    /// Returns the same for those of the named modules that the kernel has.
    pub(crate) fn available(&self, names: &[&str]) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for name in names {
            self.add(&module_name(name), &mut files);
        }
        files
    }

    /// Adds a module's files; false when there is no such module.
    fn add(&self, name: &str, files: &mut BTreeSet<String>) -> bool {
        let Some((file, depends)) = self.files.get(name) else {
            return false;
        };
        if files.insert(file.clone()) {
            let soft = self.soft.get(name).into_iter().flatten().cloned();
            for other in depends.iter().map(|file| module_name(file)).chain(soft) {
                self.add(&other, files);
            }
        }
        true
    }
}

/// Returns a module's name: of a file, an alias or a name with dashes.
pub(crate) fn module_name(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Returns a module file's name without its compression.
pub(crate) fn uncompressed(file: &str) -> &str {
    file.strip_suffix(".xz").unwrap_or(file)
}

/// Reads a module, decompressed.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = fs::read(path).context(path, "reading")?;
    if path.extension().is_none_or(|e| e != "xz") {
        return Ok(bytes);
    }
    let mut module = Vec::new();
    liblzma::read::XzDecoder::new(bytes.as_slice())
        .read_to_end(&mut module)
        .context(path, "decompressing")?;
    Ok(module)
}

/// Returns the lines of modules.alias that lead to one of `files`.
pub(crate) fn aliases(text: &str, files: &BTreeSet<String>) -> String {
    let names: BTreeSet<String> = files.iter().map(|file| module_name(file)).collect();
    let kept = text.lines().filter(|line| {
        line.rsplit(' ')
            .next()
            .is_some_and(|name| names.contains(&module_name(name)))
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// Parses modules.dep: `file: file file...`.
fn parse_dep(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let entry = |line: &str| {
        let (file, depends) = line.split_once(':')?;
        let depends = depends.split_whitespace().map(str::to_owned).collect();
        Some((module_name(file), (file.to_owned(), depends)))
    };
    text.lines().filter_map(entry).collect()
}

/// Parses modules.softdep: `softdep name pre: name... post: name...`.
fn parse_softdep(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut soft: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("softdep") {
            continue;
        }
        let Some(name) = words.next() else { continue };
        let others = words.filter(|word| !word.ends_with(':')).map(module_name);
        soft.entry(module_name(name)).or_default().extend(others);
    }
    soft
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        Modules {
            release: "6.12.1".into(),
            files: parse_dep(
                "k/vdpa.ko.xz:\nk/virtio-x.ko.xz: k/vdpa.ko.xz\nk/xfs.ko.xz: k/lib/libcrc.ko\n\
                 k/lib/libcrc.ko:\nk/crc-intel.ko:\n",
            ),
            soft: parse_softdep("# note\nsoftdep libcrc pre: crc-intel crc_none\n"),
            builtin: BTreeSet::from(["nvme".to_owned()]),
        }
    }

    #[test]
    fn dependencies_of_both_kinds() {
        let files = modules().needed(&["virtio_x", "xfs", "nvme"]).unwrap();
        let expected = [
            "k/crc-intel.ko",
            "k/lib/libcrc.ko",
            "k/vdpa.ko.xz",
            "k/virtio-x.ko.xz",
            "k/xfs.ko.xz",
        ];
        assert_eq!(
            files.iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn unknown_modules() {
        let error = modules().needed(&["vdpa", "nope"]).unwrap_err();
        assert!(matches!(error, Error::NoModule { name, .. } if name == "nope"));
        assert_eq!(modules().available(&["nope", "vdpa"]).len(), 1);
    }

    #[test]
    fn aliases_of_what_is_there() {
        let text = "alias fs-xfs xfs\nalias fs-btrfs btrfs\nalias pci:v0* virtio_x\n";
        let files = BTreeSet::from(["k/xfs.ko.xz".to_owned(), "k/virtio-x.ko".to_owned()]);
        assert_eq!(
            aliases(text, &files),
            "alias fs-xfs xfs\nalias pci:v0* virtio_x\n"
        );
    }

    #[test]
    fn modules_are_decompressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.ko.xz");
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(&b"module"[..], 1)
            .read_to_end(&mut xz)
            .unwrap();
        fs::write(&path, &xz).unwrap();
        assert_eq!(read(&path).unwrap(), b"module");
        fs::write(&path, &xz[..xz.len() / 2]).unwrap();
        assert!(read(&path).is_err());
    }
}
