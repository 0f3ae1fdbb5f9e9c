//! What a controller tells of its own accord (NVM Express base specification 2.0, 5.2).

use std::fmt;

/// An event that a controller told of. Shown as what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvmeEvent(u32);

const ERROR: u8 = 0;
const HEALTH: u8 = 1;
const NOTICE: u8 = 2;

impl NvmeEvent {
    /// Returns the event in `dword`, the result of an Asynchronous Event Request.
    pub(super) fn new(dword: u32) -> Self {
        Self(dword)
    }

    /// Returns the log page whose reading lets the controller tell of the next event of that kind.
    pub(super) fn log_page(self) -> u8 {
        (self.0 >> 16) as u8
    }

    fn kind(self) -> u8 {
        self.0 as u8 & 7
    }

    fn information(self) -> u8 {
        (self.0 >> 8) as u8
    }
}

impl fmt::Display for NvmeEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, information) = (self.kind(), self.information());
        let text = match (kind, information) {
            (ERROR, 0) => "was rung at a doorbell that it does not have",
            (ERROR, 1) => "was rung with a value that makes no sense",
            (ERROR, 2) => "has failed its own diagnosis",
            (ERROR, 3) => "has a persistent internal error",
            (ERROR, 4) => "has had a transient internal error",
            (ERROR, 5) => "could not load its firmware",
            (HEALTH, 0) => "is less reliable than it was: look at its SMART log, and replace it",
            (HEALTH, 1) => "is too hot or too cold: look at its SMART log",
            (HEALTH, 2) => "has little spare left: look at its SMART log, and replace it",
            (NOTICE, 0) => "has other namespaces than before: pollux resize takes another size on",
            (NOTICE, 1) => "begins to activate a firmware: requests wait meanwhile",
            _ => {
                return write!(
                    formatter,
                    "the controller tells of an event of kind {kind}, {information:#x}: see its specification"
                );
            }
        };
        write!(formatter, "the controller {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_apart_as_specified_and_told_in_words() {
        let changed = NvmeEvent::new(0x0004_0002);
        assert_eq!(changed.log_page(), 4);
        assert!(changed.to_string().contains("pollux resize"), "{changed}");
        let hot = NvmeEvent::new(0x0002_0101);
        assert_eq!(hot.log_page(), 2);
        assert!(hot.to_string().contains("too hot"), "{hot}");
        let unknown = NvmeEvent::new(0x00c0_1207).to_string();
        assert!(unknown.contains("kind 7, 0x12"), "{unknown}");
    }
}
