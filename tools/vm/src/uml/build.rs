//! Building user-mode Linux from Debian's sources.

use std::fs;
use std::io::{BufRead, BufReader, Read, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Context, Error};
use crate::fetch::KernelPackage;
use crate::host::{self, Tool};

/// What the kernel is configured with; the rest is off.
const CONFIG: &str = include_str!("config");

/// What ends the release of a kernel with that configuration. Raised with each change, in the configuration too: a kernel in
/// the cache that was built otherwise is built anew.
pub(crate) const LOCALVERSION: &str = "-um1";

/// What a kernel is built with.
const TOOLS: &[Tool] = &[
    ("make", "make"),
    ("gcc", "gcc"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("xz", "xz-utils"),
    ("strip", "binutils"),
];

/// How often it is told that the build goes on.
const REMINDER: Duration = Duration::from_secs(20);

/// Builds the kernel of `package`. Returns a folder with it as `vmlinuz`, and with indexes of modules in which
/// everything is built in. It takes 2 GiB in `scratch` and some minutes.
pub(crate) fn build(
    package: &KernelPackage,
    scratch: &Path,
    progress: &dyn Fn(&str),
) -> Result<PathBuf, Error> {
    host::require(TOOLS)?;
    let tree = package.unpack_sources(scratch)?;
    let sources = unpack(&tree, &package.release)?;
    let config = scratch.join("config");
    fs::write(&config, CONFIG).context(&config, "writing")?;
    host::output(make(&sources, "allnoconfig").env("KCONFIG_ALLCONFIG", &config))?;
    compile(&sources, progress)?;
    let made = scratch.join("kernel");
    let modules = made.join("lib/modules").join(&package.release);
    fs::create_dir_all(&modules).context(&modules, "making")?;
    let copy = |from: PathBuf, to: PathBuf| fs::copy(&from, to).context(from, "copying");
    copy(sources.join("linux"), made.join("vmlinuz"))?;
    host::output(host::command("strip").arg(made.join("vmlinuz")))?;
    let builtin = "modules.builtin";
    copy(sources.join(builtin), modules.join(builtin))?;
    package.index_modules(&made)?;
    Ok(made)
}

/// Returns the folder of the sources that `tree` has as an archive.
fn unpack(tree: &Path, release: &str) -> Result<PathBuf, Error> {
    let folder = tree.join("usr/src");
    let names = || {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    };
    let ends_with = |path: &PathBuf, end| path.to_string_lossy().ends_with(end);
    let missing = || Error::BrokenKernel {
        kernel: release.into(),
        what: "sources".into(),
    };
    let archive = names().find(|path| ends_with(path, ".tar.xz"));
    let archive = archive.ok_or_else(missing)?;
    let mut tar = host::command("tar");
    host::output(tar.arg("-C").arg(&folder).arg("-xJf").arg(&archive))?;
    names().find(|path| path.is_dir()).ok_or_else(missing)
}

/// Returns a command that makes `target`, without the settings of a make that this may run in.
fn make(sources: &Path, target: &str) -> Command {
    let mut make = host::command("make");
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    make.arg("-C").arg(sources).args(["ARCH=um", target]);
    make
}

/// Builds `linux`, on every CPU.
fn compile(sources: &Path, progress: &dyn Fn(&str)) -> Result<(), Error> {
    let failed = |reason: String| Error::HostCommand {
        command: "make ARCH=um linux".into(),
        reason,
    };
    let broken = |error: std::io::Error| failed(error.to_string());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut errors, writer) = pipe().map_err(broken)?;
    let mut make = make(sources, "linux");
    make.arg(format!("-j{jobs}"));
    let mut child = make
        .stdout(Stdio::piped())
        .stderr(writer)
        .spawn()
        .map_err(broken)?;
    drop(make);
    // Read beside stdout, or a compiler with much to say would wait.
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        errors.read_to_string(&mut said).map(|_| said)
    });
    let (begun, mut files) = (Instant::now(), 0_u32);
    let mut told = begun;
    for line in BufReader::new(
        child
            .stdout
            .take()
            .into_iter()
            .next()
            .ok_or_else(|| failed("no output".into()))?,
    )
    .lines()
    {
        files += u32::from(line.map_err(broken)?.starts_with("  CC "));
        if told.elapsed() >= REMINDER {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs();
            progress(&format!(
                "building user-mode Linux: {files} files compiled in {seconds} s"
            ));
        }
    }
    let status = child.wait().map_err(broken)?;
    let said = said.join().ok().and_then(Result::ok).unwrap_or_default();
    match status.success() {
        true => Ok(()),
        false => {
            let last: Vec<&str> = said.lines().rev().take(3).collect();
            Err(failed(
                last.into_iter().rev().collect::<Vec<_>>().join("; "),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_its_version() {
        let line = format!("CONFIG_LOCALVERSION=\"{LOCALVERSION}\"");
        assert!(CONFIG.lines().any(|it| it == line));
    }
}
