//! An apt of the rig's own: verified downloads without touching the machine's package state.
//!
//! It has its own lists, cache and sources. The machine's apt.conf still applies (proxies), and
//! so do its trusted keys; unauthenticated packages are refused whatever that file says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error};
use crate::host;

pub(crate) mod sources;

use sources::Source;

/// An apt with its state in one folder.
#[derive(Debug)]
pub(crate) struct Apt {
    home: PathBuf,
}

impl Apt {
    /// Makes the state in `home` and fetches the package lists of `sources`.
    pub(crate) fn update(home: &Path, sources: &[Source]) -> Result<Self, Error> {
        for dir in ["lists/partial", "archives/partial"] {
            let dir = home.join(dir);
            fs::create_dir_all(&dir).context(&dir, "making")?;
        }
        let write = |name: &str, text: String| {
            let path = home.join(name);
            fs::write(&path, text).context(&path, "writing")
        };
        write("status", String::new())?;
        let stanzas: Vec<String> = sources.iter().map(Source::to_string).collect();
        write("pollux.sources", stanzas.join("\n"))?;
        write("apt.conf", configuration(home))?;
        let apt = Self {
            home: home.to_path_buf(),
        };
        host::output(
            apt.command("apt-get")
                .args(["-qq", "--error-on=any", "update"]),
        )?;
        Ok(apt)
    }

    /// Returns one field of the newest version of a package; None when there is no such package.
    pub(crate) fn field(&self, package: &str, field: &str) -> Option<String> {
        let text =
            host::output(
                self.command("apt-cache")
                    .args(["show", "--no-all-versions", package]),
            )
            .ok()?;
        let prefix = format!("{field}: ");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
    }

    /// Returns the names of the packages that `package` depends on; alternatives all count.
    pub(crate) fn depends(&self, package: &str) -> Vec<String> {
        parse_depends(&self.field(package, "Depends").unwrap_or_default())
    }

    /// Returns the codename that the fetched release files give themselves.
    pub(crate) fn codename(&self) -> Option<String> {
        let lists = fs::read_dir(self.home.join("lists")).ok()?;
        lists.flatten().find_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_release = name.ends_with("_InRelease") || name.ends_with("_Release");
            let text = is_release.then(|| fs::read_to_string(entry.path()).ok())??;
            text.lines()
                .find_map(|l| l.strip_prefix("Codename: "))
                .map(|s| s.trim().to_owned())
        })
    }

    /// Downloads and verifies packages, and returns their files.
    pub(crate) fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>, Error> {
        let dir = self.home.join("packages");
        fs::create_dir_all(&dir).context(&dir, "making")?;
        let mut command = self.command("apt-get");
        host::output(
            command
                .args(["-qq", "download"])
                .args(packages)
                .current_dir(&dir),
        )?;
        let entries = fs::read_dir(&dir).context(&dir, "listing")?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    }

    /// Downloads and verifies packages with all that they depend on, and returns their files.
    pub(crate) fn download_all(&self, packages: &[&str]) -> Result<Vec<PathBuf>, Error> {
        let mut command = self.command("apt-get");
        command.args(["-qq", "--yes", "--no-install-recommends", "--download-only"]);
        host::output(command.arg("install").args(packages))?;
        let dir = self.home.join("archives");
        let entries = fs::read_dir(&dir).context(&dir, "listing")?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "deb"));
        files.sort();
        Ok(files)
    }

    fn command(&self, name: &str) -> std::process::Command {
        let mut command = host::command(name);
        command.arg("-c").arg(self.home.join("apt.conf"));
        command
    }
}

/// Returns an apt.conf that keeps everything in `home`.
fn configuration(home: &Path) -> String {
    let home = home.display();
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "{home}";
Dir::State::status "{home}/status";
Dir::State::lists "{home}/lists";
Dir::Cache "{home}";
Dir::Etc::sourcelist "{home}/pollux.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "2";
"#
    )
}

/// Returns the names in a Depends field, without versions.
fn parse_depends(field: &str) -> Vec<String> {
    field
        .split([',', '|'])
        .filter_map(|item| item.split_whitespace().next())
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_depends_field() {
        let field = "dracut | initramfs-tools (>= 0.120), kmod, linux-modules-7.3 (= 7.3-1)";
        assert_eq!(
            parse_depends(field),
            ["dracut", "initramfs-tools", "kmod", "linux-modules-7.3"]
        );
        assert_eq!(parse_depends(""), Vec::<String>::new());
    }
}
