//! What the kernel has counted for a thread.

use std::cell::RefCell;
use std::path::PathBuf;
use std::{fs, io};

use nix::unistd::{Pid, gettid};
use perf_event::events::{Event, Hardware};
use perf_event::{Builder, Counter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a thread used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadUsage {
    /// Time on a CPU, to a tick of the scheduler.
    pub cpu_ns: u64,
    /// Time that it was ready and another had the CPU.
    pub waited_ns: u64,
    /// Times that it slept.
    pub voluntary_switches: u64,
    /// Times that the CPU was taken from it.
    pub involuntary_switches: u64,
    /// Cycles of its CPU outside of the kernel; none where the machine counts none, as most virtual ones, or does not let it
    /// be known (perf_event_open(2)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycles: Option<u64>,
    /// Instructions in these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
}

/// A thread, of this process or another.
pub(crate) struct Thread {
    folder: PathBuf,
    cycles: Option<RefCell<Counter>>,
    instructions: Option<RefCell<Counter>>,
}

impl Thread {
    /// The calling one.
    pub(crate) fn this() -> Self {
        let id = gettid();
        Self::new(format!("/proc/self/task/{id}").into(), id)
    }

    /// Returns that of the first worker of `process`, a number or `self`, if there is one.
    pub(crate) fn of_worker(process: &str) -> Option<Self> {
        Self::ending(process, "/vq0")
    }

    fn ending(process: &str, end: &str) -> Option<Self> {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
        let is_it = |path: &PathBuf| {
            fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim().ends_with(end))
        };
        let mut paths = tasks.flatten().map(|task| task.path());
        let folder = paths.find(is_it)?;
        let id = folder.file_name()?.to_str()?.parse().ok()?;
        Some(Self::new(folder, Pid::from_raw(id)))
    }

    fn new(folder: PathBuf, id: Pid) -> Self {
        Self {
            folder,
            cycles: count(Hardware::CPU_CYCLES, id).ok().map(RefCell::new),
            instructions: count(Hardware::INSTRUCTIONS, id).ok().map(RefCell::new),
        }
    }

    /// Returns what it used so far; zeros where the kernel does not tell.
    pub(crate) fn usage(&self) -> ThreadUsage {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let counted =
            |counter: &Option<RefCell<Counter>>| counter.as_ref()?.borrow_mut().read().ok();
        ThreadUsage {
            cycles: counted(&self.cycles),
            instructions: counted(&self.instructions),
            ..parse(&read("schedstat"), &read("status"))
        }
    }
}

impl ThreadUsage {
    /// Returns what was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
            voluntary_switches: self
                .voluntary_switches
                .saturating_sub(before.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(before.involuntary_switches),
            cycles: difference(self.cycles, before.cycles),
            instructions: difference(self.instructions, before.instructions),
        }
    }
}

fn difference(after: Option<u64>, before: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

/// Returns what counts `event` for the thread `id` from now on.
fn count(event: impl Event, id: Pid) -> io::Result<Counter> {
    let mut counter = Builder::new(event).observe_pid(id.as_raw()).build()?;
    counter.enable()?;
    Ok(counter)
}

fn parse(schedstat: &str, status: &str) -> ThreadUsage {
    let mut times = schedstat
        .split_whitespace()
        .map(|it| it.parse().unwrap_or(0));
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|it| it.trim().parse().ok()).unwrap_or(0)
    };
    ThreadUsage {
        cpu_ns: times.next().unwrap_or(0),
        waited_ns: times.next().unwrap_or(0),
        voluntary_switches: value("voluntary_ctxt_switches:"),
        involuntary_switches: value("nonvoluntary_ctxt_switches:"),
        ..ThreadUsage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_event::events::Software;
    use std::time::{Duration, Instant};

    #[test]
    fn the_kernels_files_are_understood() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t8\n";
        let usage = parse("1000 200 3\n", status);
        assert_eq!((usage.cpu_ns, usage.waited_ns), (1000, 200));
        assert_eq!(
            (usage.voluntary_switches, usage.involuntary_switches),
            (7, 8)
        );
        assert_eq!(parse("", ""), ThreadUsage::default());
    }

    #[test]
    fn a_thread_that_works_uses_cpu_and_is_found_by_its_name() {
        let work = || {
            let before = Thread::this().usage();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(30) {}
            std::thread::sleep(Duration::from_millis(1));
            let used = Thread::ending("self", "usage-test")
                .unwrap()
                .usage()
                .since(before);
            assert!(used.cpu_ns > 1_000_000, "{used:?}");
            assert!(used.voluntary_switches > 0, "{used:?}");
        };
        let thread = std::thread::Builder::new().name("usage-test".into());
        thread.spawn(work).unwrap().join().unwrap();
        assert!(Thread::ending("self", "no-such-thread").is_none());
    }

    #[test]
    fn events_of_another_thread_are_counted_while_it_works() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(gettid()).unwrap();
            // Until it is told to end.
            while ended.try_recv().is_err() {}
        });
        // Every machine counts this one.
        let mut counter = count(Software::TASK_CLOCK, receiver.recv().unwrap()).unwrap();
        let before = counter.read().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let after = counter.read().unwrap();
        end.send(()).unwrap();
        thread.join().unwrap();
        assert!(after > before, "{before} {after}");
        assert_eq!(difference(Some(after), Some(before)), Some(after - before));
        assert_eq!(difference(Some(after), None), None);
    }
}
