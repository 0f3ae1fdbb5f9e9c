//! virtio_blk's `poll_queues`: how many queues of the next disk are polled instead of interrupting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const PARAMETER: &str = "/sys/module/virtio_blk/parameters/poll_queues";

/// The parameter cannot be set.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: {reason}; poll queues need root, `modprobe virtio_blk` and Linux 5.16 or newer, or \
     use --transport vduse-virtio"
)]
pub struct PollQueuesError {
    path: String,
    reason: io::Error,
}

/// A changed parameter. Dropping it restores what was there before.
///
/// The kernel looks at it whenever it makes a disk, so the module need not be loaded anew, and
/// disks that are there already, the host's own among them, stay as they are.
#[derive(Debug)]
pub(crate) struct PollQueues {
    path: PathBuf,
    before: String,
}

impl PollQueues {
    /// Has disks that appear from now on use `count` poll queues.
    pub(crate) fn set(count: u32) -> Result<Self, PollQueuesError> {
        Self::set_in(Path::new(PARAMETER), count)
    }

    fn set_in(path: &Path, count: u32) -> Result<Self, PollQueuesError> {
        let error = |reason| PollQueuesError {
            path: path.display().to_string(),
            reason,
        };
        let before = fs::read_to_string(path).map_err(error)?;
        fs::write(path, count.to_string()).map_err(error)?;
        Ok(Self {
            path: path.to_owned(),
            before: before.trim().to_owned(),
        })
    }
}

impl Drop for PollQueues {
    fn drop(&mut self) {
        if let Err(reason) = fs::write(&self.path, &self.before) {
            eprintln!(
                "{}: {reason}; it was {} before",
                self.path.display(),
                self.before
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_set_and_restored() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "3\n").unwrap();
        let set = PollQueues::set_in(file.path(), 1).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "1");
        drop(set);
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "3");
    }

    #[test]
    fn a_kernel_without_it_is_told() {
        let error = PollQueues::set_in(Path::new("/no/such/parameter"), 1).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/no/such/parameter") && text.contains("modprobe virtio_blk"),
            "{text}"
        );
    }
}
