//! The journal, where stderr goes there: each line keeps its fields, as DEVICE= and QUEUE=, and its priority.

use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing_journald::{Layer, Priority, PriorityMappings};

/// Returns what logs to the journal, if stderr is connected to it.
pub(super) fn layer() -> Option<Layer> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    if !is_stream(&stream, std::io::stderr()) {
        return None;
    }
    // Who cannot reach it writes to stderr, as anywhere else.
    let layer = Layer::new().ok()?;
    let priorities = PriorityMappings {
        // What systemd takes a line of stdout for.
        info: Priority::Informational,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    };
    Some(
        layer
            .with_field_prefix(None)
            .with_syslog_identifier("pollux".into())
            .with_priority_mappings(priorities),
    )
}

/// Returns whether `file` is the one that `stream` names as `device:inode` (systemd.exec(5), JOURNAL_STREAM): a stderr that
/// was redirected is not.
fn is_stream(stream: &str, file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_the_file_that_is_named_is_the_journals() {
        let file = tempfile::tempfile().unwrap();
        let other = tempfile::tempfile().unwrap();
        let stat = file.metadata().unwrap();
        let stream = format!("{}:{}", stat.dev(), stat.ino());
        assert!(is_stream(&stream, &file));
        assert!(!is_stream(&stream, &other));
        for no_stream in ["", ":", "1", "a:b", &format!("{stream}:1")] {
            assert!(!is_stream(no_stream, &file), "{no_stream}");
        }
    }
}
