//! A host's files below some root.

use super::version::Version;
use nix::unistd::{AccessFlags, access};
use std::fs;
use std::path::{Path, PathBuf};

/// The host to look at.
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    /// The host whose root folder this is.
    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path below the root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's content without its last line end; `None` if it cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path))
            .ok()
            .map(|text| text.trim_end().to_owned())
    }

    /// Whether this user may read and write the file.
    pub(super) fn may_use(&self, path: &str) -> bool {
        access(&self.path(path), AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
    }

    /// The names in a folder that start with `prefix`, sorted.
    pub(super) fn names(&self, folder: &str, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    }

    /// The release as `uname -r` gives it.
    pub(super) fn release(&self) -> String {
        self.read("/proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// The kernel's version, with the distribution's stable release where `uname -r` hides it.
    pub(super) fn version(&self) -> Option<Version> {
        let banner = self.read("/proc/version").unwrap_or_default();
        let signature = self.read("/proc/version_signature").unwrap_or_default();
        Version::of(&self.release(), &banner, &signature)
    }

    /// The value behind `key:` in a file of lines.
    pub(super) fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.read(path)?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// The step that gives the host a kernel with VDUSE.
    pub(super) fn kernel_remedy(&self) -> String {
        let release = self.read("/etc/os-release").unwrap_or_default();
        let debian = release.lines().any(|line| line == "ID=debian");
        let bookworm = release
            .lines()
            .any(|line| line == "VERSION_CODENAME=bookworm");
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        match (debian, bookworm) {
            (true, true) => format!("apt-get install linux-image-6.12-{arch} && reboot"),
            (true, false) => format!("apt-get install linux-image-{arch} && reboot"),
            _ => "boot a kernel of 6.12 or newer with CONFIG_VDPA_USER=m".to_owned(),
        }
    }
}

/// The CPUs or nodes in a list such as `0-3,8`; `None` if it is none.
pub(super) fn count_in_list(list: &str) -> Option<usize> {
    let mut count = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        count += (last + 1).checked_sub(first)?;
    }
    Some(count)
}

/// The file name of a module without its folder and its suffixes, spelt with underscores.
pub(super) fn module_name(path: &str) -> Option<String> {
    let file = Path::new(path).file_name()?.to_str()?;
    Some(file.split(".ko").next()?.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        for (list, count) in [("0", Some(1)), ("0-3\n", Some(4)), ("0-1,4,6-7", Some(5))] {
            assert_eq!(count_in_list(list), count, "{list}");
        }
        assert_eq!(count_in_list(""), None);
        assert_eq!(count_in_list("3-1"), None);
    }

    #[test]
    fn module_files_are_named_whatever_their_compression() {
        for file in [
            "kernel/drivers/vhost/vhost-vdpa.ko",
            "vhost_vdpa.ko.xz",
            "vhost_vdpa.ko.zst",
        ] {
            assert_eq!(module_name(file).as_deref(), Some("vhost_vdpa"));
        }
    }
}
