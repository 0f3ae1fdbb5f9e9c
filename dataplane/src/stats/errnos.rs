//! Errors of the host, counted by errno.

use super::Counter;

/// Errnos of Linux end at 133 (include/uapi/asm-generic/errno.h).
const ERRNOS: usize = 134;

/// How often each errno was met. One thread counts.
#[derive(Debug)]
pub struct ErrnoCounters([Counter; ERRNOS]);

impl Default for ErrnoCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl ErrnoCounters {
    /// Counts `errno`; one that Linux does not have counts as 0. Only the owner may call this.
    #[cold]
    pub fn count(&self, errno: i32) {
        let index = usize::try_from(errno).unwrap_or(0);
        self.0[if index < ERRNOS { index } else { 0 }].add(1);
    }

    /// Returns those that were met, and how often.
    pub fn met(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        let counted = (0..).zip(self.0.iter().map(Counter::get));
        counted.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_its_own_count() {
        let errors = ErrnoCounters::default();
        for errno in [5, 28, 5, 133, 134, -1] {
            errors.count(errno);
        }
        let met: Vec<_> = errors.met().collect();
        assert_eq!(met, [(0, 2), (5, 2), (28, 1), (133, 1)]);
    }
}
