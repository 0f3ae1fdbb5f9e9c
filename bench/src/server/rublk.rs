//! `rublk add null`: the null target of ublk, block devices served over io_uring.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;

use super::{ServerError, ServerKind, Setup, wait_until};
use crate::cpus;
use crate::interrupt::Interrupt;
use crate::process::{self, Process};
use crate::tool::RUBLK;

/// Number of the device: out of the way of those that the kernel numbers itself.
const NUMBER: u32 = 7070;
const DEPTH: u32 = 256;
const CONTROL: &str = "/dev/ublk-control";
const MODULE: &str = "ublk_drv";
/// For `modprobe` and `rublk del`, which wait for the kernel.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Rublk {
    process: Process,
    program: PathBuf,
    nodes: Nodes,
    /// The kernel may know the device.
    added: bool,
}

/// Where the device is.
#[derive(Debug)]
struct Nodes {
    disk: PathBuf,
    control: PathBuf,
}

impl Nodes {
    fn below(dev: &Path) -> Self {
        Self {
            disk: dev.join(format!("ublkb{NUMBER}")),
            control: dev.join(format!("ublkc{NUMBER}")),
        }
    }
}

/// Succeeds where ublk devices can be made; loads the kernel's module where it is missing.
pub(super) fn check() -> Result<(), ServerError> {
    RUBLK.find()?;
    if Path::new(CONTROL).exists() {
        return Ok(());
    }
    let mut command = Command::new("modprobe");
    command.arg(MODULE);
    let finished = process::run(command, &[], COMMAND_LIMIT, None)?;
    if Path::new(CONTROL).exists() {
        return Ok(());
    }
    Err(ServerError::NoUblk {
        node: CONTROL,
        module: MODULE,
        reason: finished.last_words,
    })
}

impl Rublk {
    pub(super) fn start(setup: &Setup, interrupt: &Interrupt) -> Result<Self, ServerError> {
        Self::start_with(RUBLK.find()?, Path::new("/dev"), setup, interrupt)
    }

    fn start_with(
        program: PathBuf,
        dev: &Path,
        setup: &Setup,
        interrupt: &Interrupt,
    ) -> Result<Self, ServerError> {
        let nodes = Nodes::below(dev);
        if nodes.control.exists() {
            // Left by a comparison that was killed, the only one beside us that the lock allows.
            del(&program)?;
        }
        let mut command = Command::new(&program);
        command.args(arguments(setup));
        let shown = format!("{command:?}").replace('"', "");
        let process = Process::spawn(command, &setup.cpus)?;
        let mut rublk = Self {
            process,
            program,
            nodes,
            added: true,
        };
        rublk.process.drain_stdout();
        let disk = &rublk.nodes.disk;
        let process = &mut rublk.process;
        wait_until(
            ServerKind::Rublk,
            "disk",
            process,
            &shown,
            interrupt,
            || disk.exists().then_some(()),
        )?;
        // Its threads bind themselves to the CPUs that the kernel's queues belong to.
        cpus::confine_threads(rublk.process.pid(), &setup.cpus)?;
        Ok(rublk)
    }

    pub(super) fn node(&self) -> &Path {
        &self.nodes.disk
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    pub(super) fn stop(mut self) -> Result<(), ServerError> {
        self.tear_down()
    }

    /// Deletes first: a device whose server ends stays behind.
    fn tear_down(&mut self) -> Result<(), ServerError> {
        let deleted = if self.added && self.nodes.control.exists() {
            del(&self.program)
        } else {
            Ok(())
        };
        self.added = false;
        self.process.stop()?;
        deleted
    }
}

impl Drop for Rublk {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            eprintln!("{error}");
        }
    }
}

fn arguments(setup: &Setup) -> Vec<String> {
    let (number, depth) = (NUMBER.to_string(), DEPTH.to_string());
    let queues = setup.cpus.len().to_string();
    ["add", "null", "--foreground", "--quiet"]
        .into_iter()
        .chain(["-n", &number, "-q", &queues, "-d", &depth])
        .map(ToOwned::to_owned)
        .collect()
}

fn del(program: &Path) -> Result<(), ServerError> {
    let mut command = Command::new(program);
    command.args(["del", "-n", &NUMBER.to_string()]);
    let shown = format!("{command:?}").replace('"', "");
    let finished = process::run(command, &[], COMMAND_LIMIT, None)?;
    let reason = match finished.status {
        Some(status) if status.success() => return Ok(()),
        Some(_) => finished.last_words,
        None => format!("no answer in {} s", COMMAND_LIMIT.as_secs()),
    };
    Err(ServerError::NotDeleted {
        command: shown,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::server::tests::{program, setup};

    /// Starts a program that speaks like `rublk`, with its nodes in `folder`.
    fn pretender(folder: &Path, add: &str) -> Result<Rublk, ServerError> {
        let script = format!(
            "cd {}; echo \"$@\" >> calls\nif [ $1 = del ]; then rm -f ublk?{NUMBER}; exit; fi\n{add}",
            folder.display()
        );
        let rublk = program(folder, "rublk", &script);
        let interrupt = Interrupt::install().unwrap();
        Rublk::start_with(rublk, folder, &setup(folder), &interrupt)
    }

    const ADD: &str = "touch ublkc7070 ublkb7070; while [ -e ublkc7070 ]; do read -rt 0.05 <> <(:) || :; done; touch ended";

    #[test]
    fn a_server_is_started_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let rublk = pretender(folder.path(), ADD).unwrap();
        assert_eq!(rublk.node(), folder.path().join("ublkb7070"));
        rublk.stop().unwrap();
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        let expected = "add null --foreground --quiet -n 7070 -q 1 -d 256\ndel -n 7070\n";
        assert_eq!(calls, expected);
        assert!(!folder.path().join("ublkb7070").exists());
    }

    #[test]
    fn a_leftover_is_deleted_first_and_a_dropped_server_last() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ublkc7070"), "").unwrap();
        drop(pretender(folder.path(), ADD).unwrap());
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        let first_words: Vec<&str> = calls.lines().map(|line| &line[..3]).collect();
        assert_eq!(first_words, ["del", "add", "del"]);
    }

    #[test]
    fn a_server_that_fails_is_told_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let error = pretender(folder.path(), "echo 'no permission' >&2; exit 1").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("rublk") && text.contains("no permission"),
            "{text}"
        );
    }
}
