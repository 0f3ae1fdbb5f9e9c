//! `pollux top` beside a daemon: as JSON, as a table, and on a terminal that it gives back.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::Client;
use crate::daemon::{Daemon, pollux};
use crate::{SPLIT, alone};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

fn once(daemon: &Daemon) -> (Output, Value) {
    let output = pollux(daemon, &["top", "--once", "--json", "--delay", "0.3"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    let shown = serde_json::from_str(&text).expect("JSON");
    (output, shown)
}

#[test]
fn what_is_requested_is_shown_while_it_is() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=64M", &["--queues", "2"]);
    let over = AtomicBool::new(false);
    let (table, (_, shown)) = thread::scope(|scope| {
        let mut client = Client::connect(daemon.socket(), SPLIT, 2);
        let over = &over;
        scope.spawn(move || {
            while !over.load(Relaxed) {
                client.read(1, 7);
            }
        });
        let shown = (pollux(&daemon, &["top"]), once(&daemon));
        over.store(true, Relaxed);
        shown
    });
    let device = &shown["devices"][0];
    assert_eq!(device["name"], "d0", "{shown}");
    let rate = |of: &Value| of["rates"]["iops"].as_f64().expect("a rate");
    let queues = device["queues"].as_array().expect("queues");
    assert!(
        rate(&queues[1]) > 0.0 && rate(device) == rate(&queues[1]),
        "{shown}"
    );
    assert_eq!(rate(&queues[0]), 0.0, "{shown}");
    let bytes = device["rates"]["read_bytes_per_second"]
        .as_f64()
        .expect("a rate");
    let a_request = bytes / rate(device);
    assert!((3000.0..5000.0).contains(&a_request), "{shown}");
    // Without a terminal it is a table.
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("IRQ/REQ"), "{table}");
    assert!(lines[1].contains("running"), "{table}");
    daemon.stop();
}

#[test]
fn a_daemon_that_hangs_is_named() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=64M", &[]);
    let pid = Pid::from_raw(daemon.pid() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let (output, shown) = once(&daemon);
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("does not answer: nothing came within 2 s"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(
        shown["devices"].as_array().map(Vec::len),
        Some(0),
        "{shown}"
    );
    assert_eq!(
        shown["problems"].as_array().map(Vec::len),
        Some(1),
        "{shown}"
    );
    assert_eq!(once(&daemon).0.status.code(), Some(0));
    daemon.stop();
}

/// Runs `pollux top` in a terminal of its own, started by `before`. Returns the exit code and what it wrote.
fn on_terminal(before: &str, input: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display();
    let top = concat!(env!("CARGO_BIN_EXE_pollux"), " top");
    let command = format!(
        "stty rows 24 cols 80; {before} {top} --runtime-dir {folder}; code=$?; stty -a; exit $code"
    );
    let mut script = Command::new("sh");
    // What is typed is there once the terminal is raw.
    script.args([
        "-c",
        &format!("(sleep 3; printf '{input}'; sleep 1) | script -qec \"$COMMAND\" /dev/null"),
    ]);
    script.env("COMMAND", command).env("TERM", "xterm");
    let output = script.output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[test]
fn the_terminal_is_given_back() {
    let _alone = alone();
    let endings = [
        ("", "q", 0),
        ("timeout --foreground -s TERM 3", "", 124),
        ("timeout --foreground -s HUP 3", "", 124),
        ("timeout --foreground -s INT 3", "", 124),
    ];
    thread::scope(|scope| {
        for (before, input, code) in endings {
            scope.spawn(move || {
                let (ended, text) = on_terminal(before, input);
                assert_eq!(ended, Some(code), "{before}: {text}");
                let (_, shown) = text.split_once(ENTER).expect("a screen");
                let (screen, after) = shown.split_once(LEAVE).expect("the screen's end");
                assert!(screen.contains("pollux"), "{before}: {screen}");
                for setting in ["icanon", "echo", "isig"] {
                    let is_set = after.split_whitespace().any(|word| word == setting);
                    assert!(is_set, "{before}: {after}");
                }
            });
        }
    });
}
