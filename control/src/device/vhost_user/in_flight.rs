//! The in-flight log of a device whose frontend keeps it: it outlives this process there, and comes back with the next
//! connection (VHOST_USER_GET_INFLIGHT_FD and VHOST_USER_SET_INFLIGHT_FD).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use pollux_dataplane::inflight::{InFlightLog, LogError};
use pollux_dataplane::limits::{QUEUE_SIZE_MAX, QUEUES_MAX};
use vhost::vhost_user::message::VhostUserInflight;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum InFlightError {
    /// The frontend asks for what cannot be.
    #[error("an in-flight log for {queues} queues of {entries} entries")]
    Shape {
        /// Virtqueues.
        queues: u16,
        /// Entries of each.
        entries: u16,
    },
    /// It starts elsewhere than any that was given out.
    #[error("an in-flight log at offset {0} of its file")]
    Offset(u64),
    /// The frontend could cut it short while it is written to.
    #[error("the in-flight log is in a file that can shrink: seal it with F_SEAL_SHRINK")]
    Unsealed,
    /// It is none, or there is no memory for one.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What the system said.
    #[error("the in-flight log: {0}")]
    System(#[from] io::Error),
}

/// A log, and for how large queues.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) log: InFlightLog,
    pub(super) entries: u16,
}

impl InFlight {
    /// Makes an empty one. Returns also its description and its file, for the frontend to keep.
    pub(super) fn create(
        asked: &VhostUserInflight,
    ) -> Result<(Self, VhostUserInflight, File), InFlightError> {
        let (queues, entries) = shape(asked)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"in-flight", flags).map_err(io::Error::from)?);
        let log = InFlightLog::create(file.try_clone()?, queues, entries)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(io::Error::from)?;
        let description = VhostUserInflight {
            mmap_size: file.metadata()?.len(),
            mmap_offset: 0,
            ..*asked
        };
        Ok((Self { log, entries }, description, file))
    }

    /// Opens the one that the frontend has kept in `file`.
    pub(super) fn open(told: &VhostUserInflight, file: File) -> Result<Self, InFlightError> {
        let (queues, entries) = shape(told)?;
        if told.mmap_offset != 0 {
            return Err(InFlightError::Offset(told.mmap_offset));
        }
        if !is_sealed(&file) {
            return Err(InFlightError::Unsealed);
        }
        let log = InFlightLog::open(file, queues, entries)?;
        Ok(Self { log, entries })
    }
}

/// Returns how many queues of how many entries a log is for, which indexes it by powers of two.
fn shape(described: &VhostUserInflight) -> Result<(u16, u16), InFlightError> {
    let (queues, entries) = (described.num_queues, described.queue_size);
    let fits = (1..=QUEUES_MAX).contains(&queues) && (1..=QUEUE_SIZE_MAX).contains(&entries);
    match fits {
        true => Ok((queues, entries.next_power_of_two())),
        false => Err(InFlightError::Shape { queues, entries }),
    }
}

fn is_sealed(file: impl AsFd) -> bool {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_SHRINK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(num_queues: u16, queue_size: u16) -> VhostUserInflight {
        VhostUserInflight::new(0, 0, num_queues, queue_size)
    }

    #[test]
    fn a_log_that_was_given_out_comes_back() {
        for (queues, size, entries) in [(1, 256, 256), (4, 100, 128)] {
            let (made, description, file) = InFlight::create(&asked(queues, size)).unwrap();
            assert_eq!(made.entries, entries);
            assert_eq!(
                (description.num_queues, description.queue_size),
                (queues, size)
            );
            assert_eq!(description.mmap_size, file.metadata().unwrap().len());
            assert!(file.set_len(0).is_err(), "the file can shrink");
            let opened = InFlight::open(&description, file).unwrap();
            assert_eq!(opened.entries, entries);
            assert!(opened.log.queue(queues - 1).is_some() && opened.log.queue(queues).is_none());
        }
    }

    #[test]
    fn what_is_no_log_is_refused_by_name() {
        for (queues, size) in [(0, 256), (1, 0), (1, u16::MAX), (u16::MAX, 256)] {
            let refused = InFlight::create(&asked(queues, size)).err().unwrap();
            assert!(matches!(refused, InFlightError::Shape { .. }), "{refused}");
        }
        let (_, description, file) = InFlight::create(&asked(2, 256)).unwrap();
        let open = |description, file| InFlight::open(&description, file).unwrap_err();
        let other = VhostUserInflight {
            num_queues: 3,
            ..description
        };
        let refused = open(other, file.try_clone().unwrap());
        assert!(
            refused.to_string().contains("2 queues with 256"),
            "{refused}"
        );
        let elsewhere = VhostUserInflight {
            mmap_offset: 4096,
            ..description
        };
        assert!(matches!(open(elsewhere, file), InFlightError::Offset(4096)));
        let plain = tempfile::tempfile().unwrap();
        plain.set_len(description.mmap_size).unwrap();
        assert!(matches!(open(description, plain), InFlightError::Unsealed));
    }
}
