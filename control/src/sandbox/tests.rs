//! Filters of workers, each on a process of its own, since a filter may end it and cannot be taken off.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Read, Seek, Write};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// Tells the child what to do.
const ACTION: &str = "POLLUX_TEST_ACTION";
const STORAGE: &str = "POLLUX_TEST_STORAGE";
const SANDBOX: &str = "POLLUX_TEST_SANDBOX";

/// What the child exits with when it did it.
const DONE: i32 = 42;

/// Returns how a process ends whose thread is confined as a worker over `storage` and then does `action`.
fn ending(sandbox: &str, storage: &str, action: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sandbox::tests::child", "--ignored"]);
    command.args(["--test-threads", "1"]);
    command.env(SANDBOX, sandbox).env(STORAGE, storage);
    command.env("RUST_BACKTRACE", "1");
    command.env(ACTION, action).output().unwrap().status
}

#[test]
#[ignore = "is started by the others"]
fn child() {
    let word = |name: &str| std::env::var(name).unwrap_or_default();
    let storage = match word(STORAGE).as_str() {
        "memory" => StorageCalls::Memory,
        _ => StorageCalls::None,
    };
    let sandbox = match word(SANDBOX).as_str() {
        "log" => Sandbox::Log,
        _ => Sandbox::On,
    };
    let confined = Confined {
        is_on: true,
        breach: sandbox.breach(),
    };
    let filters = confined
        .filters(WorkerCalls {
            storage,
            is_vduse: false,
            is_shared: false,
        })
        .expect("it compiles");
    let (action, mut file) = (word(ACTION), tempfile::tempfile().unwrap());
    let worker = std::thread::spawn(move || {
        for filter in &filters {
            filter.apply().expect("the kernel takes it");
        }
        act(&action, &mut file);
    });
    worker.join().expect("the worker does it");
    std::process::exit(DONE);
}

fn act(action: &str, file: &mut File) {
    match action {
        "" | "nothing" => {}
        "work" => {
            file.write_all(&vec![7; 1 << 20]).unwrap();
            let mut memory = vec![0; 64 << 20];
            let _ = file.read(&mut memory).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        "punch" => {
            fallocate(&*file, FallocateFlags::empty(), 0, 4096).unwrap();
            file.sync_data().unwrap();
        }
        "seek" => drop(file.rewind()),
        "open" => {
            let opened = OpenOptions::new().read(true).open("/proc/self/status");
            assert_eq!(opened.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        "socket" => drop(UnixDatagram::unbound()),
        "thread" => drop(std::thread::Builder::new().spawn(|| {})),
        "program" => drop(Command::new("/bin/true").status()),
        "signal" => drop(kill(Pid::from_raw(1), None)),
        "another ioctl" => drop(file.is_terminal()),
        "panic" => panic!("planted"),
        "abort" => std::process::abort(),
        other => panic!("{other} is no action"),
    }
}

#[test]
fn a_worker_does_its_work() {
    for (storage, action) in [
        ("none", "nothing"),
        ("none", "work"),
        ("none", "open"),
        ("memory", "punch"),
    ] {
        let status = ending("on", storage, action);
        assert_eq!(status.code(), Some(DONE), "{storage}, {action}: {status}");
    }
}

#[test]
fn a_forbidden_call_is_the_end_of_the_process() {
    for (storage, action) in [
        ("none", "punch"),
        ("memory", "seek"),
        ("memory", "socket"),
        ("memory", "thread"),
        ("memory", "program"),
        ("memory", "signal"),
        ("memory", "another ioctl"),
    ] {
        let status = ending("on", storage, action);
        let signal = Some(Signal::SIGSYS as i32);
        assert_eq!(status.signal(), signal, "{storage}, {action}: {status}");
    }
}

#[test]
fn a_panic_is_told_and_ends_the_thread_alone() {
    // Of the test that waits for the thread.
    const PANICKED: i32 = 101;
    let status = ending("on", "memory", "panic");
    assert_eq!(status.code(), Some(PANICKED), "{status}");
}

#[test]
fn a_worker_can_end_its_own_process() {
    let status = ending("on", "none", "abort");
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
}

#[test]
fn what_is_only_logged_goes_on() {
    for action in ["seek", "socket", "thread", "another ioctl"] {
        let status = ending("log", "none", action);
        assert_eq!(status.code(), Some(DONE), "{action}: {status}");
    }
}
