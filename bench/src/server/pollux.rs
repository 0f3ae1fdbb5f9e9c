//! `pollux serve` with the null backend, read through its `--json` events and `pollux stats`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use serde::Deserialize;

use super::{Counters, ServerError, ServerKind, Setup, wait_until};
use crate::cpus;
use crate::interrupt::Interrupt;
use crate::process::{self, Process};

const NAME: &str = "bench-pollux";
const STATS_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Pollux {
    process: Process,
    program: PathBuf,
    node: PathBuf,
}

/// A line of `pollux serve --json`; unknown events and keys are passed over.
#[derive(Deserialize)]
struct Event {
    event: String,
    name: Option<String>,
    node: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Stats {
    queues: Vec<Queue>,
}

#[derive(Deserialize)]
struct Queue {
    index: u16,
    requests: u64,
    interrupts: u64,
    #[serde(default)]
    fault: Option<String>,
}

impl Pollux {
    pub(super) fn start(setup: &Setup, interrupt: &Interrupt) -> Result<Self, ServerError> {
        let mut command = Command::new(&setup.pollux);
        command.args(arguments(setup));
        let shown = format!("{command:?}").replace('"', "");
        let mut process = Process::spawn(command, &setup.cpus)?;
        let nodes = process.take_stdout().map(attached_nodes);
        let kind = ServerKind::Pollux;
        let node = wait_until(kind, "disk", &mut process, &shown, interrupt, || {
            nodes.as_ref()?.try_recv().ok()
        })?;
        wait_until(kind, "disk", &mut process, &shown, interrupt, || {
            node.exists().then_some(())
        })?;
        Ok(Self {
            process,
            program: setup.pollux.clone(),
            node,
        })
    }

    pub(super) fn node(&self) -> &Path {
        &self.node
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    pub(super) fn counters(&self) -> Result<Counters, ServerError> {
        let mut command = Command::new(&self.program);
        command.args(["stats", NAME, "--json"]);
        let finished = process::run(command, &[], STATS_LIMIT, None)?;
        match finished.status {
            Some(status) if status.success() => sum(&finished.stdout),
            Some(_) => Err(finished.last_words),
            None => Err(format!("no answer in {} s", STATS_LIMIT.as_secs())),
        }
        .map_err(|reason| ServerError::Stats {
            name: NAME.to_owned(),
            reason,
        })
    }

    /// SIGTERM: the daemon detaches, drains and destroys the device itself.
    pub(super) fn stop(mut self) -> Result<(), ServerError> {
        Ok(self.process.stop()?)
    }
}

fn arguments(setup: &Setup) -> Vec<String> {
    let queues = setup.cpus.len().to_string();
    // Like null-co as it is by default: both leave read buffers alone.
    let backend = format!("null,size={},fill=off", setup.size_bytes);
    let cpus = cpus::join(&setup.cpus);
    [
        "serve",
        "--json",
        "--name",
        NAME,
        "--backend",
        &backend,
        "--queues",
        &queues,
    ]
    .into_iter()
    .chain(["--cpus", &cpus, "--poll", &setup.poll, "--attach", "virtio"])
    .map(ToOwned::to_owned)
    .collect()
}

/// Reads the daemon's events to their end in a thread, and sends on the disk of each attach.
fn attached_nodes(stdout: ChildStdout) -> Receiver<PathBuf> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(node) = attached_node(&line) {
                // The receiver leaves after the first; the pipe is emptied all the same.
                let _ = sender.send(node);
            }
        }
    });
    receiver
}

fn attached_node(line: &str) -> Option<PathBuf> {
    let event: Event = serde_json::from_str(line).ok()?;
    let ours = event.event == "attached" && event.name.as_deref() == Some(NAME);
    if ours { event.node } else { None }
}

fn sum(stats: &str) -> Result<Counters, String> {
    let stats: Stats = serde_json::from_str(stats).map_err(|e| e.to_string())?;
    if let Some((queue, fault)) = stats
        .queues
        .iter()
        .find_map(|queue| Some((queue, queue.fault.as_ref()?)))
    {
        return Err(format!("queue {} is broken: {fault}", queue.index));
    }
    Ok(stats
        .queues
        .iter()
        .fold(Counters::default(), |sum, queue| Counters {
            requests: sum.requests + queue.requests,
            interrupts: sum.interrupts + queue.interrupts,
        }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn only_the_attach_of_our_disk_counts() {
        let line =
            r#"{"event":"attached","name":"bench-pollux","driver":"virtio","node":"/dev/vda"}"#;
        assert_eq!(attached_node(line), Some("/dev/vda".into()));
        assert_eq!(attached_node(&line.replace("bench-pollux", "other")), None);
        assert_eq!(attached_node(&line.replace("attached", "detached")), None);
        assert_eq!(
            attached_node(r#"{"event":"created","name":"bench-pollux"}"#),
            None
        );
        assert_eq!(attached_node("not JSON"), None);
    }

    #[test]
    fn counters_are_summed_over_queues_and_a_broken_queue_is_told() {
        let stats = r#"{"name":"d0","queues":[
            {"index":0,"requests":10,"interrupts":4,"latency_ns":{"p50":1},"fault":null},
            {"index":1,"requests":5,"interrupts":1}]}"#;
        assert_eq!(
            sum(stats).unwrap(),
            Counters {
                requests: 15,
                interrupts: 5
            }
        );
        let broken = sum(&stats.replace("null", r#""looping chain""#)).unwrap_err();
        assert!(
            broken.contains("queue 0 is broken: looping chain"),
            "{broken}"
        );
        assert!(sum("{}").is_err());
    }

    /// A program that speaks like `pollux`.
    fn pretender(folder: &Path, serve: &str) -> Setup {
        let pollux = folder.join("pollux");
        let script = format!(
            "#!/bin/bash\nif [ $1 = stats ]; then\n  echo '{{\"queues\":[{{\"index\":0,\
             \"requests\":7,\"interrupts\":2}}]}}'\nelse\n  echo \"$@\" > {}/arguments\n  {serve}\nfi\n",
            folder.display()
        );
        fs::write(&pollux, script).unwrap();
        fs::set_permissions(&pollux, fs::Permissions::from_mode(0o755)).unwrap();
        Setup {
            pollux,
            cpus: vec![0],
            size_bytes: 1 << 30,
            poll: "busy".to_owned(),
        }
    }

    #[test]
    fn a_server_is_started_asked_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let serve = r#"trap 'touch '"${0%/*}/stopped; exit" TERM
            echo '{"event":"created","name":"bench-pollux"}'
            echo '{"event":"attached","name":"bench-pollux","driver":"virtio","node":"/dev/null"}'
            while :; do read -rt 0.05 <> <(:) || :; done"#;
        let setup = pretender(folder.path(), serve);
        let interrupt = Interrupt::install().unwrap();
        let pollux = Pollux::start(&setup, &interrupt).unwrap();
        assert_eq!(pollux.node(), Path::new("/dev/null"));
        assert_eq!(
            pollux.counters().unwrap(),
            Counters {
                requests: 7,
                interrupts: 2
            }
        );
        pollux.stop().unwrap();
        assert!(folder.path().join("stopped").exists());
        let arguments = fs::read_to_string(folder.path().join("arguments")).unwrap();
        let expected = "serve --json --name bench-pollux --backend null,size=1073741824,fill=off --queues 1 \
                        --cpus 0 --poll busy --attach virtio\n";
        assert_eq!(arguments, expected);
    }

    #[test]
    fn a_server_that_fails_is_told_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let setup = pretender(folder.path(), "echo 'no module' >&2; exit 1");
        let interrupt = Interrupt::install().unwrap();
        let error = Pollux::start(&setup, &interrupt).unwrap_err().to_string();
        assert!(
            error.contains("no module") && error.contains("exit status: 1"),
            "{error}"
        );
    }
}
