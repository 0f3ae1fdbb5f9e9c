//! `pollux serve` as a child, with a runtime folder of its own.

use std::fs::File;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that serves `d0`. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    socket: String,
    /// Options.
    arguments: Vec<String>,
}

impl Daemon {
    /// Serves `backend` and returns when frontends can connect.
    pub(crate) fn serve(backend: &str, options: &[&str]) -> Self {
        Self::serve_traced(backend, options, &[])
    }

    /// Serves what a configuration says in which FOLDER is the folder of the daemon, `d0` among it.
    pub(crate) fn configured(text: &str) -> Self {
        Self::configured_with(text, &[])
    }

    /// The same with other options of the daemon.
    pub(crate) fn configured_with(text: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let (socket, file) = (format!("{path}/d0.vhost"), format!("{path}/pollux.toml"));
        std::fs::write(&file, text.replace("FOLDER", path)).unwrap();
        let options = options.iter().copied().map(str::to_owned);
        let arguments: Vec<String> = ["--config".to_owned(), file]
            .into_iter()
            .chain(options)
            .collect();
        let daemon = Self {
            child: start(&[], &arguments, &folder),
            folder,
            socket,
            arguments,
        };
        daemon.is_served();
        daemon
    }

    /// The same, started by `tracer`, which must have the daemon be the child.
    pub(crate) fn serve_traced(backend: &str, options: &[&str], tracer: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let socket = at("d0.vhost");
        let fixed = [
            "--name",
            "d0",
            "--backend",
            backend,
            "--vhost-user",
            &socket,
        ];
        let arguments = fixed
            .into_iter()
            .chain(options.iter().copied())
            .map(str::to_owned);
        let arguments: Vec<String> = arguments.collect();
        let daemon = Self {
            child: start(tracer, &arguments, &folder),
            folder,
            socket,
            arguments,
        };
        daemon.is_served();
        daemon
    }

    /// Kills it, and has another one serve the same, from when frontends can connect.
    pub(crate) fn replace_killed(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = start(&[], &self.arguments, &self.folder);
        self.is_served();
    }

    fn is_served(&self) {
        let begun = Instant::now();
        while pollux(self, &["status", "d0"]).status.code() != Some(0) {
            assert!(begun.elapsed() < PATIENCE, "not served: {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the socket of its control API.
    pub(crate) fn api(&self) -> std::path::PathBuf {
        self.folder.path().join(format!("run/{}.sock", self.pid()))
    }

    /// Returns the path of `name` in its folder.
    pub(crate) fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Returns what `pollux status` shows.
    pub(crate) fn status(&self) -> Value {
        let shown = pollux(self, &["status", "d0", "--json"]).stdout;
        let stats = pollux(self, &["stats", "d0", "--json"]).stdout;
        let parse = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap_or_default();
        let mut shown = parse(&shown);
        if shown["queues"].is_null() {
            shown["queues"] = parse(&stats)["queues"].clone();
        }
        shown
    }

    /// Waits until `is_so` of what status shows.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.status()) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: {}\n{}",
                self.status(),
                self.log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it with SIGTERM, and sees that nothing stays behind.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let ended = self.child.wait().unwrap();
        assert_eq!(ended.code(), Some(0), "{}", self.log());
        assert!(
            !std::path::Path::new(&self.socket).exists(),
            "the socket stays behind"
        );
        let left = std::fs::read_dir(self.folder.path().join("run"))
            .unwrap()
            .count();
        assert_eq!(left, 0, "something stays behind in the runtime folder");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(tracer: &[&str], arguments: &[String], folder: &TempDir) -> Child {
    let mut log = File::options();
    log.append(true).create(true);
    let log = log.open(folder.path().join("log")).unwrap();
    let words = [tracer, &[env!("CARGO_BIN_EXE_pollux")]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.arg("serve").args(arguments);
    command.arg("--runtime-dir").arg(folder.path().join("run"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(log).spawn().unwrap()
}

/// Runs `pollux` with `args` beside the daemon.
pub(crate) fn pollux(daemon: &Daemon, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollux"));
    command.args(args);
    command
        .arg("--runtime-dir")
        .arg(daemon.folder.path().join("run"));
    command.output().unwrap()
}
