//! Kernels: what they are called, and the ones that are in the cache.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cache::{Cache, CacheLock};
use crate::error::{Context, Error};
use crate::fetch;
use crate::uml;

/// Which kernel to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelName {
    /// A kernel series from the machine's own suites, such as `6.12`.
    Series(String),
    /// The newest kernel in the backports of Debian's stable release.
    Newest,
    /// User-mode Linux, built from the newest sources there: an ordinary program.
    Uml,
}

/// A kernel in the cache, ready to boot.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// What `uname -r` says, such as `6.12.117+deb12-cloud-amd64`.
    pub release: String,
    /// Its folder: `vmlinuz` and `lib/modules/RELEASE`.
    dir: PathBuf,
}

impl FromStr for KernelName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split('.');
        let number = |part: Option<&str>| {
            part.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        };
        match text {
            "newest" => Ok(Self::Newest),
            "uml" => Ok(Self::Uml),
            _ if number(parts.next()) && number(parts.next()) && parts.next().is_none() => {
                Ok(Self::Series(text.to_owned()))
            }
            _ => Err(Error::Invalid(format!(
                "kernel '{text}': unknown; use 6.12, newest or uml"
            ))),
        }
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series(series) => f.write_str(series),
            Self::Newest => f.write_str("newest"),
            Self::Uml => f.write_str("uml"),
        }
    }
}

impl Kernel {
    /// Returns the kernel from the cache, or fetches it first; [`KernelName::Uml`] is built then, which takes minutes.
    ///
    /// # Errors
    /// When it is not in the cache and cannot be fetched.
    pub fn get(cache: &Cache, name: &KernelName, progress: &dyn Fn(&str)) -> Result<Self, Error> {
        if let Some(kernel) = Self::cached(cache, name) {
            return Ok(kernel);
        }
        let lock = cache.lock()?;
        match Self::cached(cache, name) {
            Some(kernel) => Ok(kernel),
            None => Self::fetch(cache, &lock, name, progress),
        }
    }

    /// Asks the network for the newest release of `name` and fetches it if it is not in the cache.
    ///
    /// # Errors
    /// When the network or apt fails; the cached kernel then stays as it was.
    pub fn update(
        cache: &Cache,
        name: &KernelName,
        progress: &dyn Fn(&str),
    ) -> Result<Self, Error> {
        Self::fetch(cache, &cache.lock()?, name, progress)
    }

    /// Returns the kernels in the cache by name.
    #[must_use]
    pub fn list(cache: &Cache) -> Vec<(KernelName, Self)> {
        let entries = fs::read_dir(kernels(cache)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
            .iter()
            .filter_map(|name| name.parse::<KernelName>().ok())
            .filter_map(|name| Some((name.clone(), Self::cached(cache, &name)?)))
            .collect()
    }

    /// Returns the folder that holds the kernel and what is made for it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the kernel's image.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// Returns the folder of the kernel's modules and their indexes.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules").join(&self.release)
    }

    fn cached(cache: &Cache, name: &KernelName) -> Option<Self> {
        let release = fs::read_link(kernels(cache).join(name.to_string())).ok()?;
        let kernel = Self::in_cache(cache, &release.to_string_lossy());
        let outdated = *name == KernelName::Uml && !kernel.release.ends_with(uml::LOCALVERSION);
        (kernel.image().is_file() && !outdated).then_some(kernel)
    }

    fn in_cache(cache: &Cache, release: &str) -> Self {
        Self {
            release: release.to_owned(),
            dir: kernels(cache).join(release),
        }
    }

    fn fetch(
        cache: &Cache,
        lock: &CacheLock,
        name: &KernelName,
        progress: &dyn Fn(&str),
    ) -> Result<Self, Error> {
        crate::host::require(&[])?;
        let scratch = lock.scratch()?;
        progress(&format!("kernel {name}: asking Debian's archive"));
        let package = fetch::find(name, scratch.path())?;
        let kernel = Self::in_cache(cache, &package.release);
        if !kernel.image().is_file() {
            progress(&format!("kernel {name}: fetching {}", package.release));
            let made = match name {
                KernelName::Uml => uml::build(&package, scratch.path(), progress)?,
                _ => package.unpack(scratch.path())?,
            };
            let parent = kernels(cache);
            fs::create_dir_all(&parent).context(&parent, "making")?;
            fs::rename(&made, &kernel.dir).context(&kernel.dir, "moving into place")?;
        }
        point(cache, lock, name, &kernel.release)?;
        remove_unnamed(cache);
        Ok(kernel)
    }
}

fn kernels(cache: &Cache) -> PathBuf {
    cache.root().join("kernels")
}

/// Makes the link `name` lead to `release`, in one step.
fn point(cache: &Cache, lock: &CacheLock, name: &KernelName, release: &str) -> Result<(), Error> {
    let scratch = lock.scratch()?;
    let new = scratch.path().join("link");
    std::os::unix::fs::symlink(release, &new).context(&new, "linking")?;
    let link = kernels(cache).join(name.to_string());
    fs::rename(&new, &link).context(&link, "moving into place")
}

/// Removes the kernels that no name leads to any more.
fn remove_unnamed(cache: &Cache) {
    let named: Vec<String> = Kernel::list(cache)
        .into_iter()
        .map(|(_, kernel)| kernel.release)
        .collect();
    let old = |path: &Path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        !path.is_symlink() && !named.contains(&name)
    };
    for entry in fs::read_dir(kernels(cache)).into_iter().flatten().flatten() {
        if old(&entry.path()) {
            // A leftover costs only space; the next update tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(cache: &Cache, release: &str) {
        let dir = kernels(cache).join(release);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("vmlinuz"), "").unwrap();
    }

    #[test]
    fn names() {
        assert_eq!(
            "6.12".parse::<KernelName>().unwrap(),
            KernelName::Series("6.12".into())
        );
        assert_eq!("newest".parse::<KernelName>().unwrap(), KernelName::Newest);
        for bad in ["", "6", "6.", "6.12.1", "../x", "latest"] {
            assert!(bad.parse::<KernelName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_release_replaces_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().into()).unwrap();
        let lock = cache.lock().unwrap();
        assert!(Kernel::list(&cache).is_empty());
        for release in ["7.3.4", "7.3.5"] {
            fake(&cache, release);
            point(&cache, &lock, &KernelName::Newest, release).unwrap();
        }
        remove_unnamed(&cache);
        let listed = Kernel::list(&cache);
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].1.release, "7.3.5");
        assert!(!kernels(&cache).join("7.3.4").exists());
    }
}
