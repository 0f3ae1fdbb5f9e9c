//! What is behind a path: its size, its blocks, what it can do. All of it is asked of the storage itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::FileError;
use super::claim::Claim;

/// Blocks of a disk that say nothing of themselves.
const BLOCK_BYTES: usize = 512;

/// An open file or block device.
#[derive(Debug)]
pub struct Storage {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) is_block: bool,
    pub(super) claim: Claim,
    /// Where a buffer may begin for direct I/O: at a multiple of this.
    pub(super) align_bytes: usize,
    /// What the length of a buffer and a place in the storage are multiples of; 1 without direct I/O.
    pub(super) block_bytes: usize,
}

/// What a block device tells of itself in sysfs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) logical_block_bytes: u32,
    pub(super) physical_block_bytes: u32,
    pub(super) optimal_io_bytes: u32,
    pub(super) discard_bytes_max: u64,
    pub(super) write_zeroes_bytes_max: u64,
    pub(super) has_volatile_cache: bool,
    pub(super) is_read_only: bool,
    /// It has queues that are polled.
    pub(super) can_poll: bool,
    pub(super) serial: String,
}

impl Storage {
    /// Opens `path`, to be read only if `read_only`, past the page cache if `direct`. One that is not there is made if
    /// `make` is set.
    ///
    /// # Errors
    ///
    /// [`FileError`] when that cannot be.
    pub(super) fn open(
        path: &Path,
        read_only: bool,
        direct: bool,
        make: bool,
    ) -> Result<Self, FileError> {
        let refuse = |reason| FileError::open(path, reason, read_only, direct);
        // Not by opening it: that waits for the other end of a pipe.
        match fs::metadata(path).map(|found| found.file_type()) {
            Ok(kind) if !kind.is_file() && !kind.is_block_device() => {
                return Err(FileError::Kind { path: path.into() });
            }
            Ok(_) => {}
            Err(reason) if make && reason.kind() == io::ErrorKind::NotFound => {}
            Err(reason) => return Err(refuse(reason)),
        }
        let flags = libc::O_CLOEXEC | if direct { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only).custom_flags(flags);
        let file = options
            .create(make && !read_only)
            .open(path)
            .map_err(refuse)?;
        let kind = file.metadata().map_err(refuse)?.file_type();
        let mut storage = Self {
            is_block: kind.is_block_device(),
            path: path.to_owned(),
            file,
            claim: Claim::default(),
            align_bytes: 1,
            block_bytes: 1,
        };
        if direct {
            (storage.align_bytes, storage.block_bytes) = storage.alignment().map_err(refuse)?;
        }
        Ok(storage)
    }

    /// Returns what addresses and lengths of direct I/O are multiples of.
    fn alignment(&self) -> io::Result<(usize, usize)> {
        let found = statx(&self.file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
        let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::DIOALIGN);
        if told && found.stx_dio_offset_align > 0 {
            let align_bytes = found.stx_dio_mem_align.max(1) as usize;
            return Ok((align_bytes, found.stx_dio_offset_align as usize));
        }
        // Where it does not tell, that of its device, and memory as strict.
        let block_bytes = match self.queue() {
            Ok(queue) => queue.logical_block_bytes as usize,
            Err(_) => BLOCK_BYTES,
        };
        Ok((block_bytes, block_bytes))
    }

    /// Returns the size in bytes as it is now.
    pub(super) fn size_bytes(&self) -> io::Result<u64> {
        // The length of a block device is in no metadata.
        (&self.file).seek(SeekFrom::End(0))
    }

    /// Returns whether the path still names what is open.
    pub(super) fn is_still_there(&self) -> io::Result<bool> {
        let (ours, there) = (self.file.metadata()?, fs::metadata(&self.path)?);
        Ok((ours.dev(), ours.ino(), ours.rdev()) == (there.dev(), there.ino(), there.rdev()))
    }

    /// Returns what sysfs tells of the block device.
    pub(super) fn queue(&self) -> io::Result<Queue> {
        let metadata = self.file.metadata()?;
        let number = match self.is_block {
            true => metadata.rdev(),
            false => metadata.dev(),
        };
        let (major, minor) = (libc::major(number), libc::minor(number));
        Queue::read(Path::new(&format!("/sys/dev/block/{major}:{minor}")))
    }
}

impl Queue {
    /// Reads what `folder`, a disk or partition in sysfs, tells.
    fn read(folder: &Path) -> io::Result<Self> {
        // A partition has the queue of its disk, in the folder above.
        let folder = folder.canonicalize()?;
        let disk = match folder.join("queue").exists() {
            true => folder.clone(),
            false => folder.parent().unwrap_or(&folder).to_owned(),
        };
        let text = |path: &Path| fs::read_to_string(path).map(|text| text.trim().to_owned());
        let number = |name: &str| -> io::Result<u64> {
            let path = disk.join("queue").join(name);
            text(&path)?.parse().map_err(io::Error::other)
        };
        Ok(Self {
            logical_block_bytes: number("logical_block_size")? as u32,
            physical_block_bytes: number("physical_block_size")? as u32,
            optimal_io_bytes: number("optimal_io_size")? as u32,
            // Zero or not there: it cannot.
            discard_bytes_max: number("discard_max_bytes").unwrap_or(0),
            write_zeroes_bytes_max: number("write_zeroes_max_bytes").unwrap_or(0),
            has_volatile_cache: text(&disk.join("queue/write_cache"))? != "write through",
            can_poll: number("io_poll").unwrap_or(0) == 1,
            is_read_only: text(&folder.join("ro"))? == "1",
            serial: ["device/serial", "serial", "device/wwid"]
                .iter()
                .find_map(|name| text(&disk.join(name)).ok().filter(|it| !it.is_empty()))
                .unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_the_queue_of_its_disk() {
        let sys = tempfile::tempdir().unwrap();
        let disk = sys.path().join("disk");
        let partition = disk.join("part1");
        for folder in [&disk.join("queue"), &disk.join("device"), &partition] {
            fs::create_dir_all(folder).unwrap();
        }
        for (name, value) in [
            ("queue/logical_block_size", "4096"),
            ("queue/physical_block_size", "16384"),
            ("queue/optimal_io_size", "65536"),
            ("queue/discard_max_bytes", "2199023255040"),
            ("queue/write_cache", "write back"),
            ("queue/io_poll", "1"),
            ("device/serial", "  S1234 "),
            ("part1/ro", "1"),
            ("ro", "0"),
        ] {
            fs::write(disk.join(name), format!("{value}\n")).unwrap();
        }
        let expected = Queue {
            logical_block_bytes: 4096,
            physical_block_bytes: 16384,
            optimal_io_bytes: 65536,
            discard_bytes_max: 2_199_023_255_040,
            write_zeroes_bytes_max: 0,
            has_volatile_cache: true,
            is_read_only: true,
            can_poll: true,
            serial: "S1234".into(),
        };
        assert_eq!(Queue::read(&partition).unwrap(), expected);
        let whole = Queue::read(&disk).unwrap();
        assert!(!whole.is_read_only);
        assert!(Queue::read(&sys.path().join("none")).is_err());
    }
}
