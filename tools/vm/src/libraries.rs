//! The shared libraries that programs need, as the host's dynamic loader finds them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error};
use crate::host;

/// Returns every shared library that the ELF files among `programs` need.
///
/// # Errors
/// When a library is not installed or a program cannot be read.
pub(crate) fn of(programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>, Error> {
    let mut elf = Vec::new();
    for program in programs {
        if is_elf(program)? {
            elf.push(program);
        }
    }
    if elf.is_empty() {
        return Ok(BTreeSet::new());
    }
    // Fails when one of the files is static, after it has listed the others.
    let listed = host::command("ldd")
        .args(&elf)
        .output()
        .context("ldd", "running")?;
    parse(&String::from_utf8_lossy(&listed.stdout))
}

fn is_elf(path: &Path) -> Result<bool, Error> {
    let mut magic = [0; 4];
    let mut file = File::open(path).context(path, "opening")?;
    Ok(file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF")
}

/// Parses ldd's output: `name => path (address)`, or `path (address)` for the loader itself.
fn parse(text: &str) -> Result<BTreeSet<PathBuf>, Error> {
    let mut libraries = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('\t')) {
        let line = line.trim();
        if let Some(name) = line.strip_suffix("=> not found") {
            return Err(Error::Invalid(format!(
                "library {}: needed in the guest but not installed here; install it",
                name.trim()
            )));
        }
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path);
        if path.starts_with('/') {
            libraries.insert(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_ldd() {
        let text = "/bin/a:\n\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7f)\n/bin/b:\n\tnot a dynamic executable\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(text).unwrap(), BTreeSet::from(expected));
        assert!(
            parse("\tlibx.so => not found\n")
                .unwrap_err()
                .to_string()
                .contains("libx.so")
        );
    }

    #[test]
    fn a_program_of_this_host() {
        let test = std::env::current_exe().unwrap();
        let libraries = of(&[test, "/etc/os-release".into()]).unwrap();
        assert!(
            libraries
                .iter()
                .any(|l| l.to_string_lossy().contains("libc.so.6"))
        );
    }
}
