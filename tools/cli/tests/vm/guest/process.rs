//! Commands with a time limit.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENCE;

/// Text that a thread collects while a process writes it.
type Collected = Arc<Mutex<String>>;

/// A process with its output collected. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    label: String,
    child: Child,
    stdout: Collected,
    stderr: Collected,
    readers: Vec<JoinHandle<()>>,
}

/// How a process ended and what it wrote.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) label: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `program` to its end.
pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args);
    Running::start(command).wait(PATIENCE)
}

/// Runs `pollux` with `args` to its end.
pub(crate) fn pollux(args: &[&str]) -> Output {
    run("pollux", args)
}

impl Output {
    /// Returns what was printed by a process that succeeded.
    pub(crate) fn succeeded(self) -> String {
        assert!(
            self.status.success(),
            "{}: {}\n{}{}",
            self.label,
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }
}

impl Running {
    /// Starts `command`.
    pub(crate) fn start(mut command: Command) -> Self {
        let label = format!("{command:?}").replace('"', "");
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{label}: {e}"));
        let (stdout, stderr) = (Collected::default(), Collected::default());
        let readers = vec![
            collect(child.stdout.take().expect("it is piped"), &stdout),
            collect(child.stderr.take().expect("it is piped"), &stderr),
        ];
        Self {
            label,
            child,
            stdout,
            stderr,
            readers,
        }
    }

    /// Starts `program`.
    pub(crate) fn program(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        Self::start(command)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|e| panic!("{}: {e}", self.label));
    }

    /// Returns what it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Returns what it has complained so far.
    pub(crate) fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Returns whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// After `limit`, saying where the process stands.
    pub(crate) fn wait(mut self, limit: Duration) -> Output {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                break status;
            }
            assert!(
                Instant::now() < end,
                "{}: still running after {} s\n{}\n{}{}",
                self.label,
                limit.as_secs(),
                self.whereabouts(),
                self.stdout(),
                self.stderr()
            );
            sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        Output {
            label: self.label.clone(),
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Returns where in the kernel each of its threads waits.
    fn whereabouts(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let tasks = tasks.into_iter().flatten().flatten();
        let stacks = tasks.map(|task| {
            let file = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            format!("thread {}{}", file("comm"), file("stack"))
        });
        stacks.collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither matters when it has ended.
        let _ = self.child.kill();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
    }
}

fn text(collected: &Collected) -> String {
    collected
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

fn collect(mut from: impl Read + Send + 'static, to: &Collected) -> JoinHandle<()> {
    let to = Arc::clone(to);
    spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
            to.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    })
}
