//! The folder that keeps kernels and archives between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use crate::error::{Context, Error};

/// Prefix of the folders in which something is being made.
const SCRATCH_PREFIX: &str = "making-";

/// The rig's folder in the user's cache.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Held while something is added to the cache, so that two runs do not make the same thing.
#[derive(Debug)]
pub(crate) struct CacheLock {
    _lock: Flock<File>,
    root: PathBuf,
}

impl Cache {
    /// Returns `pollux/vm` in `XDG_CACHE_HOME`, or in `~/.cache`.
    ///
    /// # Errors
    /// When neither XDG_CACHE_HOME nor HOME is set, or the folder cannot be made.
    pub fn of_user() -> Result<Self, Error> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .ok_or_else(|| {
                Error::Invalid("cache folder: HOME is not set; set XDG_CACHE_HOME".into())
            })?;
        Self::at(base.join("pollux/vm"))
    }

    /// Returns a cache in `root`, which is made if it does not exist.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn at(root: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&root).context(&root, "making the cache folder")?;
        Ok(Self { root })
    }

    /// Returns the cache's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Waits for others that add to the cache, then removes what an interrupted one left.
    pub(crate) fn lock(&self) -> Result<CacheLock, Error> {
        let path = self.root.join("lock");
        let file = File::create(&path).context(&path, "opening")?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .context(&path, "locking")?;
        for entry in fs::read_dir(&self.root)
            .context(&self.root, "listing")?
            .flatten()
        {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(SCRATCH_PREFIX)
            {
                // Only a leftover: whoever made it held this lock.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(CacheLock {
            _lock: lock,
            root: self.root.clone(),
        })
    }
}

impl CacheLock {
    /// Returns a folder to make something in, removed when dropped. It is in the cache's file
    /// system, so what is finished can be renamed into place.
    pub(crate) fn scratch(&self) -> Result<TempDir, Error> {
        tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir_in(&self.root)
            .context(&self.root, "making a temporary folder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_removes_leftovers_and_scratch_vanishes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("a/b")).unwrap();
        fs::create_dir(cache.root().join("making-old")).unwrap();
        fs::create_dir(cache.root().join("kernels")).unwrap();
        let lock = cache.lock().unwrap();
        assert!(!cache.root().join("making-old").exists());
        assert!(cache.root().join("kernels").exists());
        let path = lock.scratch().unwrap().path().to_path_buf();
        assert!(!path.exists());
    }
}
