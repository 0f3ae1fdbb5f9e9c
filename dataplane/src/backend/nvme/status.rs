//! How a command ended (NVM Express base specification 2.0, 3.3.3.2.1; NVM command set specification 1.0, 3.1).

use nix::errno::Errno;

use crate::backend::Outcome;

/// The status field of a completion, without its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Status(pub(in crate::backend) u16);

/// Status code types.
const GENERIC: u16 = 0;
const COMMAND_SPECIFIC: u16 = 1;

impl Status {
    #[inline]
    pub(in crate::backend) fn is_success(self) -> bool {
        // Behind status code and type are hints on retries.
        self.0 & 0x7ff == 0
    }

    /// Returns what that means for the operation.
    #[inline]
    pub(in crate::backend) fn outcome(self) -> Outcome {
        if self.is_success() {
            Outcome::Done
        } else {
            self.failure()
        }
    }

    #[cold]
    fn failure(self) -> Outcome {
        let (kind, code) = (self.0 >> 8 & 7, self.0 & 0xff);
        let errno = match (kind, code) {
            // Invalid opcode, invalid field: it lacks what was asked for.
            (GENERIC, 0x01 | 0x02) => return Outcome::Unsupported,
            // Aborted: by request, with its queue, with another command, by a sanitize operation.
            (GENERIC, 0x07..=0x0a) => Errno::ECANCELED,
            (GENERIC, 0x0b) => Errno::ENODEV,
            (GENERIC, 0x20) | (COMMAND_SPECIFIC, 0x82) => Errno::EROFS,
            (GENERIC, 0x80) => Errno::EINVAL,
            (GENERIC, 0x81) => Errno::ENOSPC,
            _ => Errno::EIO,
        };
        Outcome::Failed {
            errno: errno as i32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_errnos() {
        let failed = |errno: Errno| Outcome::Failed {
            errno: errno as i32,
        };
        for (status, outcome) in [
            (0x000, Outcome::Done),
            // More, and do not retry.
            (0x6000, Outcome::Done),
            (0x001, Outcome::Unsupported),
            (0x4002, Outcome::Unsupported),
            (0x008, failed(Errno::ECANCELED)),
            (0x00b, failed(Errno::ENODEV)),
            (0x020, failed(Errno::EROFS)),
            (0x182, failed(Errno::EROFS)),
            (0x080, failed(Errno::EINVAL)),
            (0x081, failed(Errno::ENOSPC)),
            // Media: write fault, unrecovered read.
            (0x280, failed(Errno::EIO)),
            (0x281, failed(Errno::EIO)),
            // Internal error, a path's, a vendor's.
            (0x006, failed(Errno::EIO)),
            (0x300, failed(Errno::EIO)),
            (0x7c0, failed(Errno::EIO)),
        ] {
            assert_eq!(Status(status).outcome(), outcome, "{status:#x}");
        }
    }
}
