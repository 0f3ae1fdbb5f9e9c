//! Child processes that are pinned, can be waited for with a bound, and never outlive their owner.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cpus::{self, CpuError};
use crate::interrupt::Interrupt;
use crate::spawn;

/// How often a waiting loop looks again; coarse, because it runs beside a measurement.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);
const STDERR_LINES: usize = 8;
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// Why a child process did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It was not started.
    #[error("{0}: cannot be started: {1}; check that the file exists and may be executed")]
    Start(String, std::io::Error),
    /// The CPUs that it was to run on.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The kernel did not tell about it any more.
    #[error("{0}: waiting for its end: {1}; look for it with `ps`")]
    Wait(String, std::io::Error),
    /// It had to be killed.
    #[error("{0}: still running {1} s after SIGTERM, killed; look at `dmesg` for what held it")]
    Stuck(String, u64),
}

/// A running child. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    errors: Arc<Mutex<VecDeque<String>>>,
    error_reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` on `cpus` (empty: on any), with its output piped and nothing to read.
    pub(crate) fn spawn(command: Command, cpus: &[usize]) -> Result<Self, ProcessError> {
        Self::start(command, cpus, Stdio::piped())
    }

    /// Starts `command` on any CPU; what it writes to standard error is shown at once and not kept.
    pub(crate) fn spawn_shown(command: Command) -> Result<Self, ProcessError> {
        Self::start(command, &[], Stdio::inherit())
    }

    fn start(mut command: Command, cpus: &[usize], stderr: Stdio) -> Result<Self, ProcessError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let set = if cpus.is_empty() {
            None
        } else {
            Some(cpus::set(cpus)?)
        };
        spawn::confine(&mut command, set);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command
            .spawn()
            .map_err(|e| ProcessError::Start(name.clone(), e))?;
        let errors = Arc::default();
        let error_reader = child
            .stderr
            .take()
            .map(|stderr| keep_last_lines(stderr, Arc::clone(&errors)));
        Ok(Self {
            name,
            child,
            errors,
            error_reader,
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        // Linux PIDs stay below 2^22.
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// What it writes to standard output, once.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Reads and forgets what it writes to standard output, so that it never blocks on a full pipe.
    pub(crate) fn drain_stdout(&mut self) {
        if let Some(mut stdout) = self.take_stdout() {
            thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
        }
    }

    /// Its exit status if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child
            .try_wait()
            .map_err(|e| ProcessError::Wait(self.name.clone(), e))
    }

    /// Waits for its end; `None` after `limit` or when the user asked to stop.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
        interrupt: Option<&Interrupt>,
    ) -> Result<Option<ExitStatus>, ProcessError> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if Instant::now() >= end || interrupt.is_some_and(Interrupt::requested) {
                return Ok(None);
            }
            match interrupt {
                Some(interrupt) => interrupt.sleep(LOOK_AGAIN),
                None => thread::sleep(LOOK_AGAIN),
            }
        }
    }

    /// The last lines of its standard error on one line, for messages about a child that ended.
    pub(crate) fn last_words(&self) -> String {
        // The pipe may still hold lines. Bounded, as a grandchild may keep it open.
        let end = Instant::now() + Duration::from_secs(1);
        while self
            .error_reader
            .as_ref()
            .is_some_and(|reader| !reader.is_finished())
            && Instant::now() < end
        {
            thread::sleep(Duration::from_millis(5));
        }
        let lines = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines
            .iter()
            .map(|line| line.trim())
            .filter(|line| !line.is_empty())
            .collect();
        if lines.is_empty() {
            "it printed no error".to_owned()
        } else {
            lines.join(" | ")
        }
    }

    /// Asks it to end, waits, and kills it where that does not help.
    pub(crate) fn stop(&mut self) -> Result<(), ProcessError> {
        self.stop_within(STOP_PATIENCE)
    }

    /// Ends it without asking.
    pub(crate) fn kill(&mut self) -> Result<(), ProcessError> {
        self.kill_within(STOP_PATIENCE)
    }

    fn kill_within(&mut self, patience: Duration) -> Result<(), ProcessError> {
        let wait_error = |e| ProcessError::Wait(self.name.clone(), e);
        self.child.kill().map_err(wait_error)?;
        // A child in uninterruptible sleep does not even die of SIGKILL: bounded here too.
        self.wait(patience, None)?;
        Ok(())
    }

    fn stop_within(&mut self, patience: Duration) -> Result<(), ProcessError> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        // ESRCH only: a child that has not been waited for keeps its PID.
        let _ = kill(self.pid(), Signal::SIGTERM);
        if self.wait(patience, None)?.is_some() {
            return Ok(());
        }
        self.kill_within(patience)?;
        Err(ProcessError::Stuck(self.name.clone(), patience.as_secs()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error}");
        }
    }
}

/// Reads in a thread of its own, so that the child never blocks on a full pipe.
fn keep_last_lines(stderr: ChildStderr, kept: Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == STDERR_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        }
    })
}

/// Runs `command` to its end, or ends it after `limit` or on request; returns its status,
/// standard output and last words.
pub(crate) fn run(
    command: Command,
    cpus: &[usize],
    limit: Duration,
    interrupt: Option<&Interrupt>,
) -> Result<Finished, ProcessError> {
    let mut process = Process::spawn(command, cpus)?;
    let reader = process.take_stdout().map(|mut stdout| {
        thread::spawn(move || {
            let mut text = String::new();
            // What cannot be read is seen as missing by whoever parses it.
            let _ = stdout.read_to_string(&mut text);
            text
        })
    });
    let status = process.wait(limit, interrupt)?;
    if status.is_none() {
        process.stop_within(SHORT_PATIENCE)?;
    }
    // What hangs in the kernel keeps its pipe open: no waiting for that.
    let reader = reader.filter(|_| matches!(process.ended(), Ok(Some(_))));
    let stdout = reader
        .and_then(|reader| reader.join().ok())
        .unwrap_or_default();
    Ok(Finished {
        status,
        stdout,
        last_words: process.last_words(),
    })
}

/// What is left of a process that [`run`] ran.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None`: it was stopped, for the time limit or for the user.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) last_words: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_finished_run_has_status_output_and_last_words() {
        let finished = run(
            shell("echo out; echo first >&2; echo last >&2; exit 3"),
            &[],
            Duration::from_secs(20),
            None,
        )
        .unwrap();
        assert_eq!(finished.status.unwrap().code(), Some(3));
        assert_eq!(finished.stdout, "out\n");
        assert_eq!(finished.last_words, "first | last");
    }

    #[test]
    fn a_child_is_pinned_unblocked_and_stopped_when_dropped() {
        let cpu = crate::cpus::Placement::choose(&[], &[]).map_or(0, |placement| placement.fio[0]);
        let _interrupt = Interrupt::install().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let process = Process::spawn(command, &[cpu]).unwrap();
        let proc = format!("/proc/{}", process.pid());
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(list.unwrap().trim(), cpu.to_string());
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        assert_eq!(u64::from_str_radix(blocked.unwrap().trim(), 16), Ok(0));
        drop(process);
        assert!(fs::metadata(proc).is_err());
    }

    #[test]
    fn a_child_that_ignores_sigterm_is_killed_and_told_of() {
        let mut process =
            Process::spawn(shell("trap '' TERM; echo ready; exec sleep 600"), &[]).unwrap();
        let mut line = String::new();
        BufReader::new(process.take_stdout().unwrap())
            .read_line(&mut line)
            .unwrap();
        let error = process.stop_within(Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, ProcessError::Stuck(..)), "{error}");
        assert!(process.ended().unwrap().is_some());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Process::spawn(Command::new("/no/such/program"), &[]).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
