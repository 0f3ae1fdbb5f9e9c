//! `pollux serve` with the null backend, read through its `--json` events and `pollux stats`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ServerError, ServerKind, Setup, Variant, wait_until};
use crate::cpus;
use crate::interrupt::Interrupt;
use crate::process::{self, Process};
use crate::transport::Transport;

const NAME: &str = "bench-pollux";
const STATS_LIMIT: Duration = Duration::from_secs(20);
/// Longer than a polling driver waits between two requests, shorter than its ramp time.
const POLL_QUEUE_POLL_US: u32 = 100_000;

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
struct Stats<C> {
    queues: Vec<Queue<C>>,
}

#[derive(Deserialize)]
struct Queue<C> {
    index: u16,
    #[serde(default)]
    fault: Option<String>,
    #[serde(flatten)]
    counters: C,
}

impl Pollux {
    pub(super) fn start(
        variant: &Variant,
        setup: &Setup,
        interrupt: &Interrupt,
    ) -> Result<Self, ServerError> {
        let cpus = cpus_of_queues(setup);
        let program = variant.program().unwrap_or(&setup.pollux).to_owned();
        let mut command = Command::new(&program);
        command.arg("serve");
        command.args(variant.arguments(&options(setup, &cpus)));
        let shown = format!("{command:?}").replace('"', "");
        let mut process = Process::spawn(command, &cpus)?;
        let socket = setup.socket(NAME);
        let nodes = process
            .take_stdout()
            .map(|stdout| attached_nodes(stdout, socket));
        let kind = ServerKind::Pollux;
        let node = wait_until(kind, "disk", &mut process, &shown, interrupt, || {
            nodes.as_ref()?.try_recv().ok()
        })?;
        wait_until(kind, "disk", &mut process, &shown, interrupt, || {
            node.exists().then_some(())
        })?;
        Ok(Self {
            process,
            program,
            node,
        })
    }

    pub(super) fn node(&self) -> &Path {
        &self.node
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    pub(super) fn counters<C: DeserializeOwned>(&self) -> Result<Vec<C>, ServerError> {
        let mut command = Command::new(&self.program);
        command.args(["stats", NAME, "--json"]);
        let finished = process::run(command, &[], STATS_LIMIT, None)?;
        match finished.status {
            Some(status) if status.success() => counted(&finished.stdout),
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

/// The CPU of each queue's worker. The poll queue of [`Transport::VduseVirtioPoll`] is the last one;
/// where the server has a single CPU, the ordinary queue, which sleeps, is put on the load's.
fn cpus_of_queues(setup: &Setup) -> Vec<usize> {
    match (setup.transport, setup.cpus.as_slice()) {
        (Transport::VduseVirtioPoll, &[first, second, ..]) => vec![first, second],
        (Transport::VduseVirtioPoll, cpus) => setup
            .load_cpus
            .iter()
            .take(1)
            .chain(cpus)
            .copied()
            .collect(),
        (_, cpus) => cpus[..setup.queues()].to_vec(),
    }
}

/// The poll mode that was asked for, or what suits the transport.
fn poll(setup: &Setup) -> Vec<(&'static str, Option<String>)> {
    let shares = setup.transport == Transport::VduseVirtioPoll && setup.cpus.len() < 2;
    match &setup.poll {
        Some(poll) => vec![("poll", Some(poll.clone()))],
        // A queue that spins without ever having a request would take the load's CPU.
        None if shares => vec![
            ("poll", Some("adaptive".to_owned())),
            ("poll-us", Some(POLL_QUEUE_POLL_US.to_string())),
        ],
        None => vec![("poll", Some("busy".to_owned()))],
    }
}

fn options(setup: &Setup, cpus: &[usize]) -> Vec<(&'static str, Option<String>)> {
    let bus = match (setup.socket(NAME), setup.transport) {
        (Some(socket), _) => ("vhost-user", socket.display().to_string()),
        (None, Transport::VduseVhost) => ("attach", "vhost".to_owned()),
        (None, _) => ("attach", "virtio".to_owned()),
    };
    // Like null-co as it is by default: both leave read buffers alone.
    let backend = format!("null,size={},fill=off", setup.size_bytes);
    let value = |text: &str| Some(text.to_owned());
    let mut options = vec![
        ("json", None),
        ("name", value(NAME)),
        ("backend", Some(backend)),
        ("queues", Some(cpus.len().to_string())),
        ("cpus", Some(cpus::join(cpus))),
    ];
    if setup.transport.is_driven_here() {
        // The load needs room for its depth; a disk has what `pollux serve` gives it.
        options.push(("queue-size", Some(setup.queue_size.to_string())));
    }
    options.extend(poll(setup));
    options.push((bus.0, Some(bus.1)));
    for (name, value) in &setup.options {
        options.retain(|(other, _)| other != name);
        options.push((name, Some(value.clone())));
    }
    options
}

/// Reads the daemon's events to their end in a thread, and sends on the disk of each attach, or `socket` once it is
/// served.
fn attached_nodes(stdout: ChildStdout, socket: Option<PathBuf>) -> Receiver<PathBuf> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(node) = attached_node(&line, socket.as_deref()) {
                // The receiver leaves after the first; the pipe is emptied all the same.
                let _ = sender.send(node);
            }
        }
    });
    receiver
}

fn attached_node(line: &str, socket: Option<&Path>) -> Option<PathBuf> {
    let event: Event = serde_json::from_str(line).ok()?;
    match event.event.as_str() {
        _ if event.name.as_deref() != Some(NAME) => None,
        "attached" => event.node,
        "serving" => socket.map(Path::to_owned),
        _ => None,
    }
}

/// What each queue has counted.
fn counted<C: DeserializeOwned>(stats: &str) -> Result<Vec<C>, String> {
    let stats: Stats<C> = serde_json::from_str(stats).map_err(|e| e.to_string())?;
    let counters = |queue: Queue<C>| match queue.fault {
        Some(fault) => Err(format!("queue {} is broken: {fault}", queue.index)),
        None => Ok(queue.counters),
    };
    stats.queues.into_iter().map(counters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    use crate::server::Counters;
    use crate::server::tests::{program, setup};

    #[test]
    fn only_the_attach_of_our_disk_counts() {
        let line =
            r#"{"event":"attached","name":"bench-pollux","driver":"virtio","node":"/dev/vda"}"#;
        let node = |line: &str| attached_node(line, None);
        assert_eq!(node(line), Some("/dev/vda".into()));
        assert_eq!(node(&line.replace("bench-pollux", "other")), None);
        assert_eq!(node(&line.replace("attached", "detached")), None);
        assert_eq!(node("not JSON"), None);
        let serving = r#"{"event":"serving","name":"bench-pollux"}"#;
        assert_eq!(node(serving), None);
        let socket = Path::new("/run/socket");
        assert_eq!(attached_node(serving, Some(socket)), Some(socket.into()));
    }

    fn counters(requests: u64, interrupts: u64, kicks: u64) -> Counters {
        Counters {
            requests,
            interrupts,
            kicks,
        }
    }

    #[test]
    fn counters_are_told_by_queue_and_a_broken_queue_is_told() {
        let stats = r#"{"name":"d0","queues":[
            {"index":0,"requests":10,"interrupts":4,"latency_ns":{"p50":1},"fault":null},
            {"index":1,"requests":5,"interrupts":1,"kicks":3}]}"#;
        assert_eq!(
            counted::<Counters>(stats).unwrap(),
            [counters(10, 4, 0), counters(5, 1, 3)]
        );
        let broken = counted::<Counters>(&stats.replace("null", r#""looping chain""#)).unwrap_err();
        assert!(
            broken.contains("queue 0 is broken: looping chain"),
            "{broken}"
        );
        assert!(counted::<Counters>("{}").is_err());
    }

    fn plain() -> Variant {
        ServerKind::Pollux.into()
    }

    /// A program that speaks like `pollux`.
    fn pretender(folder: &Path, serve: &str) -> Setup {
        let script = format!(
            "if [ $1 = stats ]; then\n  echo '{{\"queues\":[{{\"index\":0,\
             \"requests\":7,\"interrupts\":2}}]}}'\nelse\n  echo \"$@\" > {}/arguments\n  {serve}\nfi",
            folder.display()
        );
        program(folder, "pollux", &script);
        setup(folder)
    }

    fn arguments(setup: &Setup, variant: &str) -> String {
        let variant: Variant = variant.parse().unwrap();
        variant
            .arguments(&options(setup, &cpus_of_queues(setup)))
            .join(" ")
    }

    #[test]
    fn options_follow_the_transport_and_the_variant() {
        let mut setup = setup(Path::new("/nowhere"));
        (setup.cpus, setup.load_cpus) = (vec![3, 4], vec![0]);
        let tail = |setup: &Setup, variant| {
            let arguments = arguments(setup, variant);
            arguments.split_once("fill=off ").unwrap().1.to_owned()
        };
        assert_eq!(
            tail(&setup, "pollux:irq-hold-us=0:poll=event"),
            "--queues 2 --cpus 3,4 --attach virtio --irq-hold-us 0 --poll event"
        );
        setup.transport = Transport::VduseVirtioPoll;
        assert_eq!(
            tail(&setup, "pollux"),
            "--queues 2 --cpus 3,4 --poll busy --attach virtio"
        );
        setup.cpus = vec![3];
        assert_eq!(
            tail(&setup, "pollux"),
            "--queues 2 --cpus 0,3 --poll adaptive --poll-us 100000 --attach virtio"
        );
        setup.poll = Some("busy".to_owned());
        setup.transport = Transport::VduseVhost;
        (setup.cpus, setup.queue_size) = (vec![3, 4], 512);
        assert_eq!(
            tail(&setup, "pollux"),
            "--queues 1 --cpus 3 --queue-size 512 --poll busy --attach vhost"
        );
        setup.transport = Transport::VhostUser;
        assert_eq!(
            tail(&setup, "pollux"),
            "--queues 1 --cpus 3 --queue-size 512 --poll busy --vhost-user /nowhere/bench-pollux"
        );
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
        let pollux = Pollux::start(&plain(), &setup, &interrupt).unwrap();
        assert_eq!(pollux.node(), Path::new("/dev/null"));
        assert_eq!(pollux.counters::<Counters>().unwrap(), [counters(7, 2, 0)]);
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
        let error = Pollux::start(&plain(), &setup, &interrupt)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no module") && error.contains("exit status: 1"),
            "{error}"
        );
    }
}
