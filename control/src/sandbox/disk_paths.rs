//! The folders and files below which disks may be, where the configuration says so: what landlock leaves of a daemon whose devices
//! come and go, and what is refused by name before the kernel would.

use std::path::{Path, PathBuf};

use super::Place;

/// VFIO's groups: who has it among the paths lets controllers be driven.
const VFIO: &str = "/dev/vfio";

/// Those folders and files, absolute. Symbolic links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPaths(Vec<PathBuf>);

/// Why there are no such paths.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' in `paths` is no absolute path: begin it with a /")]
pub struct RelativePath(PathBuf);

/// A device is where none may be.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is outside of `paths` ({allowed}), below which this configuration has its disks: use one below them, or name its folder \
     there and start the daemon anew"
)]
pub struct Outside {
    path: String,
    allowed: String,
}

impl DiskPaths {
    /// Takes those paths. What is not there when the daemon starts stays out of its reach.
    ///
    /// # Errors
    ///
    /// [`RelativePath`] for the first that depends on where the daemon was started.
    pub fn new(paths: Vec<PathBuf>) -> Result<Self, RelativePath> {
        match paths.iter().find(|path| !path.is_absolute()) {
            Some(relative) => Err(RelativePath(relative.clone())),
            None => Ok(Self(paths)),
        }
    }

    /// Returns those that are not there, of which nothing can be served before the daemon is started anew.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Path> {
        let paths = self.0.iter().map(PathBuf::as_path);
        paths.filter(|path| !path.exists())
    }

    /// Returns what the daemon has to be able to use for any disk below them.
    pub(crate) fn places(&self) -> Vec<Place> {
        let vfio = self.holds(Path::new(VFIO)).then_some(Place::Vfio);
        let disks = self.0.iter().cloned().map(Place::Disks);
        disks.chain(vfio).collect()
    }

    /// Says which of the `places` of a device is outside, if one is. Its socket may be in `runtime_dir`, too, or anywhere while
    /// that is not known.
    ///
    /// # Errors
    ///
    /// [`Outside`] for the first.
    pub(crate) fn check(
        &self,
        places: &[Place],
        runtime_dir: Option<&Path>,
    ) -> Result<(), Outside> {
        for place in places {
            let (path, is_inside) = match place {
                Place::Storage(path) => (path.as_path(), self.holds(path)),
                Place::Socket(path) => {
                    let is_own =
                        runtime_dir.is_none_or(|folder| is_below(path, folder) == Some(true));
                    (path.as_path(), is_own || self.holds(path))
                }
                Place::Vfio => (Path::new(VFIO), self.holds(Path::new(VFIO))),
                Place::Disks(path) | Place::Configuration(path) => (path.as_path(), true),
            };
            if !is_inside {
                return Err(self.outside(path));
            }
        }
        Ok(())
    }

    fn holds(&self, path: &Path) -> bool {
        let mut paths = self.0.iter();
        paths.any(|allowed| is_below(path, allowed) == Some(true))
    }

    fn outside(&self, path: &Path) -> Outside {
        let allowed: Vec<String> = self.0.iter().map(|it| it.display().to_string()).collect();
        Outside {
            path: match path.canonicalize() {
                Ok(there) if there != path => {
                    format!("{}, which is {},", path.display(), there.display())
                }
                _ => path.display().to_string(),
            },
            allowed: match allowed.is_empty() {
                true => "of which there are none".into(),
                false => allowed.join(", "),
            },
        }
    }
}

/// Returns whether `path` is `allowed` or below it, once links are followed; none where nobody can tell.
fn is_below(path: &Path, allowed: &Path) -> Option<bool> {
    Some(resolved(path)?.starts_with(resolved(allowed)?))
}

/// Returns where `path` leads, perhaps with a last part that is not there yet; none where a link leads nowhere.
fn resolved(path: &Path) -> Option<PathBuf> {
    if let Ok(there) = path.canonicalize() {
        return Some(there);
    }
    if path.is_symlink() {
        return None;
    }
    let folder = path.parent()?;
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    Some(resolved(folder)?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_below_is_found_behind_links_and_before_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["disks", "others", "run", "disks-too"] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in ["disks/one", "others/one", "others/file", "disks-too/one"] {
            fs::write(at(name), "").unwrap();
        }
        symlink(at("disks"), at("link")).unwrap();
        symlink(at("others/one"), at("disks/out")).unwrap();
        symlink(at("nowhere"), at("disks/nowhere")).unwrap();
        let paths = DiskPaths::new(vec![at("link"), at("others/file")]).unwrap();
        for (name, is_inside) in [
            ("disks/one", true),
            ("link/one", true),
            ("disks/new", true),
            ("disks/new/er", true),
            ("others/file", true),
            ("others/one", false),
            ("disks/out", false),
            ("disks/nowhere", false),
            ("disks-too/one", false),
            ("disks/../others/one", false),
            ("disks/new/../../others/one", false),
            ("others/new", false),
        ] {
            let storage = [Place::Storage(at(name))];
            assert_eq!(paths.check(&storage, None).is_ok(), is_inside, "{name}");
        }
        let socket = |name: &str| paths.check(&[Place::Socket(at(name))], Some(&at("run")));
        assert!(socket("run/d0").is_ok() && socket("disks/d0").is_ok());
        let refused = socket("others/d0").unwrap_err().to_string();
        for part in [at("others/d0"), at("link"), at("others/file")] {
            let part = part.to_str().unwrap();
            assert!(refused.contains(part), "{refused}");
        }
        let refused = paths.check(&[Place::Storage(at("disks/out"))], None);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(at("others/one").to_str().unwrap()));
        assert!(paths.check(&[Place::Vfio], None).is_err());
        assert_eq!(paths.missing().count(), 0);
    }

    #[test]
    fn controllers_are_driven_where_vfio_is_among_the_paths() {
        let paths = DiskPaths::new(vec!["/dev".into()]).unwrap();
        paths.check(&[Place::Vfio], None).unwrap();
        assert!(paths.places().contains(&Place::Vfio));
        let relative = DiskPaths::new(vec!["/srv".into(), "images".into()]).unwrap_err();
        assert!(relative.to_string().contains("'images'"), "{relative}");
        let none = DiskPaths::new(Vec::new()).unwrap();
        let refused = none.check(&[Place::Storage("/a".into())], None);
        assert!(refused.unwrap_err().to_string().contains("none"));
    }
}
