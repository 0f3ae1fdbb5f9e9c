//! An initramfs: a cpio archive in the "newc" format, owned by root and the same for the same
//! contents (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use cpio::newc;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Top folders that Debian links into /usr. An archive that made one of them a folder would
/// replace the link that an earlier archive made.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Writes an archive; paths are the guest's, absolute or not, and missing parents are made.
#[derive(Debug)]
pub(crate) struct Archive<W: Write> {
    out: W,
    made: BTreeSet<String>,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            made: BTreeSet::new(),
            inode: 0,
        }
    }

    /// Adds a folder.
    pub(crate) fn dir(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.entry(path, DIRECTORY | mode, &[])
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | (mode & 0o7777), data)
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, SYMLINK | 0o777, target.as_bytes())
    }

    /// Adds the links from /bin, /sbin, /lib and /lib64 into /usr.
    pub(crate) fn merged_links(&mut self) -> io::Result<()> {
        for name in MERGED {
            self.dir(&format!("usr/{name}"), 0o755)?;
            self.write(name, SYMLINK | 0o777, format!("usr/{name}").as_bytes())?;
        }
        Ok(())
    }

    /// Returns whether the path was added.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.made.contains(&normal(path))
    }

    /// Ends the archive. Others may follow it in the same file.
    pub(crate) fn finish(self) -> io::Result<W> {
        newc::trailer(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let path = normal(path);
        if path.is_empty() {
            return Ok(());
        }
        self.parents(&path)?;
        if self.made.insert(path.clone()) {
            self.write(&path, mode, data)
        } else {
            Ok(())
        }
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        for (slash, _) in path.match_indices('/') {
            let parent = &path[..slash];
            if self.made.insert(parent.to_owned()) {
                self.write(parent, DIRECTORY | 0o755, &[])?;
            }
        }
        Ok(())
    }

    fn write(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let size = u32::try_from(data.len())
            .map_err(|_| io::Error::other(format!("{path}: larger than 4 GiB")))?;
        self.inode += 1;
        let builder = newc::Builder::new(path).ino(self.inode).nlink(1).mode(mode);
        let mut writer = builder.write(&mut self.out, size);
        writer.write_all(data)?;
        writer.finish()?;
        Ok(())
    }
}

/// Returns the path without a leading slash, in /usr where the guest's top folder is a link.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
        .collect();
    let path = parts.join("/");
    match parts.first() {
        Some(first) if MERGED.contains(first) => format!("usr/{path}"),
        _ => path,
    }
}

/// Returns a host path in the form the archive takes; the guest has only UTF-8 names.
pub(crate) fn name_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            let mut reader = newc::Reader::new(bytes).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut data = Vec::new();
            io::Read::read_to_end(&mut reader, &mut data).unwrap();
            entries.push((name, mode, data));
            bytes = reader.finish().unwrap();
        }
    }

    #[test]
    fn parents_come_first_and_once() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/etc/a/x", 0o644, b"12345").unwrap();
        archive.file("etc/a/y", 0o755, b"").unwrap();
        archive.file("etc/a/y", 0o755, b"again").unwrap();
        let entries = entries(&archive.finish().unwrap());
        let expected: [(&str, u32, &[u8]); 4] = [
            ("etc", 0o040_755, b""),
            ("etc/a", 0o040_755, b""),
            ("etc/a/x", 0o100_644, b"12345"),
            ("etc/a/y", 0o100_755, b""),
        ];
        let expected: Vec<_> = expected
            .map(|(n, m, d)| (n.to_owned(), m, d.to_vec()))
            .into();
        assert_eq!(entries, expected);
    }

    #[test]
    fn merged_folders_stay_links() {
        let mut archive = Archive::new(Vec::new());
        archive.merged_links().unwrap();
        archive.file("/lib64/ld.so", 0o755, b"").unwrap();
        archive.symlink("/bin/sh", "busybox").unwrap();
        assert!(archive.contains("/bin/sh") && archive.contains("usr/bin/sh"));
        let names: Vec<_> = entries(&archive.finish().unwrap())
            .into_iter()
            .map(|e| e.0)
            .collect();
        assert!(names.contains(&"usr/lib64/ld.so".to_owned()));
        assert_eq!(names.iter().filter(|n| *n == "lib64").count(), 1);
    }
}
