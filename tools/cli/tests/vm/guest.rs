//! The guest that the tests run in: one test at a time, and each leaves it as it found it.

mod daemon;
mod disk;
mod fio;
mod kernel_log;
mod leftovers;
mod nvme;
mod process;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) use daemon::Daemon;
pub(crate) use disk::Disk;
pub(crate) use fio::{Fio, Report};
pub(crate) use leftovers::leftovers;
pub(crate) use nvme::{give_to, namespace_node};
pub(crate) use process::{Output, Running, pollux, run};

/// How long a test waits for anything that should come soon. Generous: an emulated machine with two
/// CPUs on a busy host is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const CONTROL_NODE: &str = "/dev/vduse/control";
const LOG_LINES: usize = 40;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `test`. Fails, too, when it leaves anything behind or the kernel complains meanwhile.
pub(crate) fn in_guest(test: impl FnOnce()) {
    assert!(
        std::path::Path::new(CONTROL_NODE).exists(),
        "{CONTROL_NODE} is missing: these tests need VDUSE; run them with pollux vm run"
    );
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Outside of what is cleared up after: on a machine that is in use this must end nobody's daemon.
    let before = leftovers();
    assert_eq!(before, [""; 0], "this was there before the test");
    let seen = kernel_log::lines().len();
    let begun = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        test();
        leftovers::wait_until_none();
        assert_eq!(kernel_log::complaints(seen), [""; 0]);
    }));
    eprintln!("{:.1} s", begun.elapsed().as_secs_f32());
    if let Err(panic) = ended {
        let log = kernel_log::lines();
        let tail = log.len().saturating_sub(LOG_LINES).max(seen.min(log.len()));
        eprintln!("--- kernel log\n{}", log[tail..].join("\n"));
        leftovers::clear();
        resume_unwind(panic);
    }
}

/// Returns the first value that `look` finds.
///
/// # Panics
///
/// After [`PATIENCE`], naming `what`.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "{what}: not in {} s",
            PATIENCE.as_secs()
        );
        sleep(Duration::from_millis(10));
    }
}

/// Returns the text of `path` without the white space around it.
pub(crate) fn read(path: impl AsRef<std::path::Path>) -> String {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path);
    text.unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .trim()
        .to_owned()
}

/// Writes `text` to `path`, which exists.
pub(crate) fn write(path: impl AsRef<std::path::Path>, text: &str) {
    let path = path.as_ref();
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
