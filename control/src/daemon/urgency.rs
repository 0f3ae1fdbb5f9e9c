//! Going before other threads, while a driver waits for two daemons to agree.

use crate::sandbox::raised;
use rustix::process::{Pid, getpriority_process, setpriority_process};

/// The most urgent (setpriority(2)).
const NICE_MIN: i32 = -20;

/// Makes all threads that this process has urgent, and those that they start. Dropping it ends that. It does nothing
/// for who may not (CAP_SYS_NICE): then every step waits for its turn on a CPU.
#[derive(Debug)]
pub(super) struct Urgency {
    nice: i32,
}

impl Urgency {
    pub(super) fn begin() -> Self {
        let nice = getpriority_process(None).unwrap_or(0);
        set_all(NICE_MIN);
        Self { nice }
    }
}

impl Drop for Urgency {
    fn drop(&mut self) {
        set_all(self.nice);
    }
}

/// Linux has a nice value for each thread.
fn set_all(nice: i32) {
    raised(|| set_each(nice));
}

fn set_each(nice: i32) {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    for task in tasks.flatten() {
        let id = task.file_name().to_str().and_then(|id| id.parse().ok());
        if let Some(thread) = id.and_then(Pid::from_raw) {
            // It may have ended.
            let _ = setpriority_process(Some(thread), nice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_are_urgent_until_the_end() {
        let before = getpriority_process(None).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (told, answer) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            while receiver.recv().is_ok() {
                told.send(getpriority_process(None).unwrap()).unwrap();
            }
        });
        let ask = || {
            sender.send(()).unwrap();
            answer.recv().unwrap()
        };
        let urgency = Urgency::begin();
        let allowed = getpriority_process(None).unwrap();
        // Who is not allowed stays as it is.
        assert!(allowed == NICE_MIN || allowed == before, "{allowed}");
        assert_eq!(ask(), allowed);
        drop(urgency);
        assert_eq!(
            (getpriority_process(None).unwrap(), ask()),
            (before, before)
        );
        drop(sender);
        other.join().unwrap();
    }
}
