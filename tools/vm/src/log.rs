//! The guest's console: what its kernel and init wrote.

use std::collections::VecDeque;

/// Most bytes kept, the newest ones. A guest that loops on warnings must not fill the host.
const LOG_BYTES_MAX: usize = 4 << 20;

/// Texts of the kernel that mean a bug, in it or in what it was given.
const WARNINGS: [&str; 11] = [
    "WARNING: ",
    "BUG: ",
    "Oops: ",
    "kernel BUG at",
    "general protection fault",
    "Kernel panic",
    "blocked for more than",
    "soft lockup",
    "detected stall",
    "UBSAN: ",
    "Out of memory: ",
];

/// The console's text.
#[derive(Debug, Clone, Default)]
pub struct Log {
    bytes: VecDeque<u8>,
}

impl Log {
    /// Adds what came, without the carriage returns of a serial line.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes
            .extend(bytes.iter().filter(|byte| **byte != b'\r'));
        let extra = self.bytes.len().saturating_sub(LOG_BYTES_MAX);
        self.bytes.drain(..extra);
    }

    /// Returns the newest text, at most 4 MiB.
    #[must_use]
    pub fn text(&self) -> String {
        let (head, tail) = self.bytes.as_slices();
        String::from_utf8_lossy(&[head, tail].concat()).into_owned()
    }

    /// Whether the kernel panicked.
    #[must_use]
    pub fn panicked(&self) -> bool {
        self.text().contains("Kernel panic")
    }

    /// Returns the first line that shows a kernel bug, oops, hang or the like.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let text = self.text();
        let line = text
            .lines()
            .find(|line| WARNINGS.iter().any(|w| line.contains(w)));
        line.map(|line| line.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_found() {
        let mut log = Log::default();
        log.push(b"[ 0.1] Linux version 6.12\r\n");
        assert_eq!(log.warning(), None);
        log.push(b"[ 2.0] WARNING: CPU: 1 PID: 9 at fs/x.c\r\n");
        assert_eq!(
            log.warning().unwrap(),
            "[ 2.0] WARNING: CPU: 1 PID: 9 at fs/x.c"
        );
        assert!(!log.panicked());
        log.push(b"[ 3.0] Kernel panic - not syncing: sysrq\r\n");
        assert!(log.panicked());
    }

    #[test]
    fn the_newest_part_is_kept() {
        let mut log = Log::default();
        log.push(b"first\n");
        for _ in 0..5 {
            log.push(&vec![b'x'; 1 << 20]);
        }
        log.push(b"last\n");
        let text = log.text();
        assert_eq!(text.len(), LOG_BYTES_MAX);
        assert!(text.ends_with("last\n") && !text.contains("first"));
    }
}
