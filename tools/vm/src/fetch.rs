//! Debian's cloud kernels and kernel sources: which packages hold them, and unpacking those.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::Apt;
use crate::apt::sources::{self, Source};
use crate::error::{Context, Error};
use crate::host;
use crate::kernel::KernelName;
use crate::uml;

/// Ends the name of every image of the flavour used: small, and with VDUSE.
const FLAVOUR: &str = "-cloud-amd64";
/// Depends on the newest image of its suite.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// Depends on the newest kernel sources of its suite.
const SOURCES_META_PACKAGE: &str = "linux-source";
/// Where Debian keeps its keys: newer releases' keys are added here before those releases.
const ARCHIVE_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel found in a package list.
#[derive(Debug)]
pub(crate) struct KernelPackage {
    pub(crate) release: String,
    apt: Apt,
}

/// Returns the sources of the machine's own Debian release: empty if it has none.
pub(crate) fn own_sources() -> Result<Vec<Source>, Error> {
    Ok(of_release(&debian_sources()?, &codename()?))
}

fn debian_sources() -> Result<Vec<Source>, Error> {
    let all = sources::of_machine(Path::new("/etc/apt"))?.into_iter();
    Ok(all.filter(Source::may_be_debian).collect())
}

/// Looks for the kernel in the machine's own suites, or for the newest in stable's backports.
pub(crate) fn find(name: &KernelName, scratch: &Path) -> Result<KernelPackage, Error> {
    let codename = codename()?;
    let all = debian_sources()?;
    let missing = |suite: &str| Error::NoSource {
        kernel: name.to_string(),
        suite: suite.into(),
    };
    match name {
        KernelName::Series(series) => {
            let own = of_release(&all, &codename);
            if own.is_empty() {
                return Err(missing(&codename));
            }
            let apt = Apt::update(&scratch.join("apt"), &own)?;
            let special = format!("linux-image-{series}{FLAVOUR}");
            let release = [special.as_str(), META_PACKAGE]
                .iter()
                .filter_map(|meta| image_release(&apt.depends(meta)))
                .find(|release| release.starts_with(&format!("{series}.")));
            let suites = format!("the suites of {codename}");
            found(name, release, suites, apt)
        }
        KernelName::Newest | KernelName::Uml => {
            let main = of_release(&all, &codename);
            let main = main.iter().find(|s| s.suites.contains(&codename));
            let mirror = main.ok_or_else(|| missing(&codename))?;
            let apt = stable_backports(mirror, scratch)?;
            let release = match name {
                KernelName::Uml => source_version(&apt).map(|version| version + uml::LOCALVERSION),
                _ => image_release(&apt.depends(META_PACKAGE)),
            };
            found(name, release, "the backports of Debian stable".into(), apt)
        }
    }
}

impl KernelPackage {
    /// Downloads the packages and returns a folder with `vmlinuz` and `lib/modules/RELEASE`.
    pub(crate) fn unpack(&self, scratch: &Path) -> Result<PathBuf, Error> {
        let tree = scratch.join("tree");
        self.extract(&self.packages(), &tree)?;
        let made = scratch.join("kernel");
        self.arrange(&tree, &made)?;
        self.index_modules(&made)?;
        Ok(made)
    }

    /// Downloads the sources instead. Returns a folder with all that their package holds.
    pub(crate) fn unpack_sources(&self, scratch: &Path) -> Result<PathBuf, Error> {
        let tree = scratch.join("tree");
        self.extract(
            &sources_package(&self.apt).into_iter().collect::<Vec<_>>(),
            &tree,
        )?;
        Ok(tree)
    }

    /// Downloads `packages` and puts what is in them below `tree`.
    fn extract(&self, packages: &[String], tree: &Path) -> Result<(), Error> {
        for package in self.apt.download(packages)? {
            host::output(host::command("dpkg-deb").arg("-x").arg(package).arg(tree))?;
        }
        Ok(())
    }

    /// Writes the indexes of the modules in `made`, as depmod(8) does.
    pub(crate) fn index_modules(&self, made: &Path) -> Result<(), Error> {
        let mut depmod = host::command("depmod");
        host::output(depmod.arg("-b").arg(made).arg(&self.release)).map(drop)
    }

    /// The image package, and the parts it is split into (since 7.3).
    fn packages(&self) -> Vec<String> {
        let mut wanted = vec![format!("linux-image-{}", self.release)];
        let mut seen = BTreeSet::new();
        while let Some(package) = wanted.pop() {
            let parts = self.apt.depends(&package);
            if seen.insert(package) {
                wanted.extend(parts.into_iter().filter(|p| {
                    p.starts_with("linux-") && p.ends_with(&format!("-{}", self.release))
                }));
            }
        }
        seen.into_iter().collect()
    }

    /// Moves the image and the modules from where this Debian release puts them.
    fn arrange(&self, tree: &Path, made: &Path) -> Result<(), Error> {
        let release = &self.release;
        let first = |what: &str, places: &[String]| {
            let found = places
                .iter()
                .map(|place| tree.join(place))
                .find(|p| p.exists());
            found.ok_or_else(|| Error::BrokenKernel {
                kernel: release.clone(),
                what: what.into(),
            })
        };
        let modules = first(
            "modules",
            &[
                format!("usr/lib/modules/{release}"),
                format!("lib/modules/{release}"),
            ],
        )?;
        let parent = made.join("lib/modules");
        fs::create_dir_all(&parent).context(&parent, "making")?;
        let image = first(
            "vmlinuz",
            &[
                format!("boot/vmlinuz-{release}"),
                format!("usr/lib/modules/{release}/vmlinuz"),
            ],
        )?;
        fs::rename(&image, made.join("vmlinuz")).context(&image, "moving")?;
        fs::rename(&modules, parent.join(release)).context(&modules, "moving")
    }
}

fn found(
    name: &KernelName,
    release: Option<String>,
    suites: String,
    apt: Apt,
) -> Result<KernelPackage, Error> {
    match release {
        Some(release) => Ok(KernelPackage { release, apt }),
        None => Err(Error::NoKernel {
            kernel: name.to_string(),
            suites,
        }),
    }
}

/// Fetches the package list of stable's backports from the mirror.
///
/// Mirrors may serve an old copy under the alias, so it only tells the codename of the suite.
fn stable_backports(mirror: &Source, scratch: &Path) -> Result<Apt, Error> {
    let key = Path::new(ARCHIVE_KEYS)
        .exists()
        .then(|| ARCHIVE_KEYS.to_owned());
    let source = |suite: &str| Source {
        uris: mirror.uris.clone(),
        suites: vec![suite.to_owned()],
        components: vec!["main".to_owned()],
        signed_by: key.clone().or_else(|| mirror.signed_by.clone()),
    };
    let alias = Apt::update(&scratch.join("alias"), &[source("stable-backports")])?;
    match alias.codename() {
        Some(codename) => Apt::update(&scratch.join("apt"), &[source(&codename)]),
        None => Ok(alias),
    }
}

/// Returns the package of the newest kernel sources, such as linux-source-7.3.
fn sources_package(apt: &Apt) -> Option<String> {
    let depends = apt.depends(SOURCES_META_PACKAGE);
    let mut sources = depends.into_iter();
    sources.find(|package| package.starts_with("linux-source-"))
}

/// Returns the upstream version of the newest kernel sources, such as 7.3.4.
fn source_version(apt: &Apt) -> Option<String> {
    let version = apt.field(&sources_package(apt)?, "Version")?;
    version.split('-').next().map(str::to_owned)
}

/// Returns the sources of the release itself, its updates and its security suite.
fn of_release(all: &[Source], codename: &str) -> Vec<Source> {
    let own = |suite: &String| {
        let suite = suite.trim_end_matches('/');
        ["", "-updates", "-security", "-backports"]
            .iter()
            .any(|end| suite.strip_prefix(codename) == Some(end))
    };
    let keep = |source: &Source| {
        let suites: Vec<String> = source.suites.iter().filter(|s| own(s)).cloned().collect();
        (!suites.is_empty()).then(|| Source {
            suites,
            ..source.clone()
        })
    };
    all.iter().filter_map(keep).collect()
}

/// Returns the kernel release in the name of the image package among `depends`.
fn image_release(depends: &[String]) -> Option<String> {
    depends
        .iter()
        .filter_map(|package| package.strip_prefix("linux-image-"))
        .find(|r| r.ends_with(FLAVOUR) && r.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// Returns the codename of the Debian release this machine runs (os-release(5)).
fn codename() -> Result<String, Error> {
    let path = "/etc/os-release";
    let text = fs::read_to_string(path).context(path, "reading")?;
    parse_codename(&text).ok_or_else(|| {
        Error::Invalid(
            "kernel: this machine does not run a Debian release; run `pollux vm` on Debian 12 or \
             later"
                .into(),
        )
    })
}

fn parse_codename(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let value = os_release
            .lines()
            .find_map(|line| line.strip_prefix(name))?;
        Some(value.trim_matches('"').to_owned())
    };
    (field("ID=").as_deref() == Some("debian")).then(|| field("VERSION_CODENAME="))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_of_the_release_only() {
        let text = "deb http://a/debian bookworm main\ndeb http://a/debian trixie main\n\
                    deb http://s/debian-security bookworm-security main\n\
                    deb http://x bookworm-pgdg main\n";
        let own = of_release(&sources::parse_list(text), "bookworm");
        let suites: Vec<&str> = own.iter().map(|s| s.suites[0].as_str()).collect();
        assert_eq!(suites, ["bookworm", "bookworm-security"]);
    }

    #[test]
    fn release_of_a_meta_package() {
        let depends = [
            "linux-base-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
        ];
        let depends: Vec<String> = depends.iter().map(|s| (*s).to_owned()).collect();
        assert_eq!(image_release(&depends).unwrap(), "7.3.4+deb13-cloud-amd64");
        assert_eq!(image_release(&["linux-image-cloud-amd64".into()]), None);
    }

    #[test]
    fn codename_of_debian_only() {
        let debian = "NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(parse_codename(debian).as_deref(), Some("bookworm"));
        assert_eq!(parse_codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
    }
}
