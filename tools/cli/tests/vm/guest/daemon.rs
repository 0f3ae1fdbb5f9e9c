//! `pollux serve` as a child.

use std::path::PathBuf;

use nix::sys::signal::Signal;
use pollux_control::device::DeviceSnapshot;
use serde_json::Value;

use super::{Disk, Output, PATIENCE, Running, pollux, until};

/// A daemon that serves one device. Dropping it kills it, which leaves the device behind.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    process: Running,
}

impl Daemon {
    /// Serves `backend` as `name` and returns when the device is served, and attached if `options` say
    /// so.
    pub(crate) fn serve(name: &str, backend: &str, options: &[&str]) -> Self {
        let mut daemon = Self::start(name, backend, options);
        let last = match options.contains(&"--attach") {
            true => "attached",
            false => "serving",
        };
        daemon.event(last);
        daemon
    }

    /// Starts it, and does not wait for anything.
    pub(crate) fn start(name: &str, backend: &str, options: &[&str]) -> Self {
        let fixed = ["serve", "--json", "--name", name, "--backend", backend];
        Self {
            name: name.into(),
            process: Running::program("pollux", &[&fixed, options].concat()),
        }
    }

    /// Takes a daemon that was started otherwise.
    pub(crate) fn from(name: &str, process: Running) -> Self {
        Self {
            name: name.into(),
            process,
        }
    }

    /// Waits until the daemon has told of `event`. Returns the last one of that kind.
    pub(crate) fn event(&mut self, event: &str) -> Value {
        until(&format!("{}: event {event}", self.name), || {
            let ended = self.process.has_ended();
            let events = self.events(event);
            assert!(!ended || !events.is_empty(), "the daemon has ended");
            events.into_iter().next_back()
        })
    }

    /// Waits until the daemon has told of `count` such events.
    pub(crate) fn until_events(&mut self, event: &str, count: usize) {
        until(&format!("{count} events {event}"), || {
            assert!(!self.process.has_ended(), "the daemon has ended");
            (self.events(event).len() >= count).then_some(())
        });
    }

    /// Returns every `event` that the daemon has told of.
    pub(crate) fn events(&self, event: &str) -> Vec<Value> {
        let printed = self.process.stdout();
        let complete = printed.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        let parsed = complete.map(|line| {
            let value: Result<Value, _> = serde_json::from_str(line);
            value.unwrap_or_else(|e| panic!("event {line:?}: {e}"))
        });
        parsed.filter(|value| value["event"] == event).collect()
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Sends it `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Returns what it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    /// Returns the device as `pollux status` shows it.
    pub(crate) fn snapshot(&self) -> DeviceSnapshot {
        let shown = pollux(&["status", &self.name, "--json"]).succeeded();
        serde_json::from_str(&shown).expect(&shown)
    }

    /// Returns the node of the attached device.
    pub(crate) fn node(&self) -> PathBuf {
        let node = self.snapshot().node;
        PathBuf::from(node.expect("the device is attached"))
    }

    /// Returns the disk that this host has of the device.
    pub(crate) fn disk(&self) -> Disk {
        Disk::new(self.node())
    }

    /// Attaches the device to `driver`. Returns the node.
    pub(crate) fn attach(&self, driver: &str) -> PathBuf {
        let printed = pollux(&["attach", &self.name, "--driver", driver]).succeeded();
        let node = PathBuf::from(printed.trim());
        assert!(node.exists(), "{printed}");
        node
    }

    pub(crate) fn detach(&self) {
        pollux(&["detach", &self.name]).succeeded();
    }

    /// Stops it with SIGTERM, and sees that it ended well.
    pub(crate) fn stop(self) {
        self.stop_with(Signal::SIGTERM);
    }

    /// Stops it with `signal`, and sees that it ended well.
    pub(crate) fn stop_with(self, signal: Signal) {
        let output = self.end_with(signal);
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
        let stopped = r#"{"event":"stopped""#;
        assert!(output.stdout.contains(stopped), "{}", output.stdout);
    }

    /// Sees that it ends well by itself.
    pub(crate) fn ended(mut self) {
        let idle = Running::program("true", &[]);
        std::mem::replace(&mut self.process, idle)
            .wait(PATIENCE)
            .succeeded();
    }

    /// Waits until it has killed itself.
    pub(crate) fn died(mut self) {
        let idle = Running::program("true", &[]);
        let output = std::mem::replace(&mut self.process, idle).wait(PATIENCE);
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        assert_eq!(signal, Some(Signal::SIGKILL as i32), "{}", output.stderr);
    }

    /// Kills it, which leaves the device behind.
    pub(crate) fn kill(self) {
        self.end_with(Signal::SIGKILL);
    }

    fn end_with(mut self, signal: Signal) -> Output {
        self.process.signal(signal);
        let idle = Running::program("true", &[]);
        std::mem::replace(&mut self.process, idle).wait(PATIENCE)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- daemon of {}\n{}{}",
                self.name,
                self.process.stdout(),
                self.process.stderr()
            );
        }
    }
}
