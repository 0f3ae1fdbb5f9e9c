//! The control API and clients that make no sense, are slow, or are many.

use std::fs::Permissions;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use crate::alone;
use crate::daemon::{Daemon, pollux};

/// Sends `text` and returns status and body of the answer.
pub(crate) fn ask(daemon: &Daemon, text: &str) -> (u16, String) {
    let stream = UnixStream::connect(daemon.api()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    exchange(stream, text)
}

fn exchange(mut stream: impl Read + Write, text: &str) -> (u16, String) {
    // A daemon that refuses need not read all of it.
    let _ = stream.write_all(text.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let status = head.split(' ').nth(1).expect(head);
    (status.parse().expect(head), body.to_owned())
}

pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: pollux\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn requests_that_make_no_sense_are_told_so_in_json() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let long = format!("{{\"driver\": \"{}\"}}", "x".repeat(100_000));
    for (method, path, body, status, word) in [
        ("GET", "/nothing", "", 404, "no such path"),
        ("GET", "/v1/devices/d9", "", 404, "d9 is not served"),
        ("DELETE", "/v1/devices", "", 405, "not for DELETE"),
        ("POST", "/v1/devices/d0/attach", "{", 400, "JSON"),
        (
            "POST",
            "/v1/devices/d0/attach",
            "{\"driver\": \"scsi\"}",
            422,
            "scsi",
        ),
        ("POST", "/v1/devices/d0/attach", long.as_str(), 413, "limit"),
        (
            "POST",
            "/v1/devices/d0/resize",
            "{\"size_bytes\": -1}",
            422,
            "size_bytes",
        ),
        ("POST", "/v1/reload", "null", 409, "pollux serve --config"),
        (
            "POST",
            "/v1/devices",
            "{\"name\": \"d1\", \"backend\": \"null,size=1G\"}",
            409,
            "pollux serve --config",
        ),
        ("DELETE", "/v1/devices/d0", "", 409, "pollux serve --config"),
    ] {
        let (found, text) = ask(&daemon, &request(method, path, body));
        assert_eq!(found, status, "{method} {path}: {text}");
        let error: Value = serde_json::from_str(&text).expect(&text);
        let error = error["error"].as_str().expect(&text);
        assert!(error.contains(word), "{method} {path}: {error}");
    }
    for nonsense in ["\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        assert_eq!(ask(&daemon, nonsense).0, 400, "{nonsense:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(300_000));
    assert_eq!(ask(&daemon, &long).0, 431);
    let (status, health) = ask(&daemon, &request("GET", "/v1/health", ""));
    assert_eq!(
        (status, health.contains("\"healthy\":true")),
        (200, true),
        "{health}"
    );
    let (_, version) = ask(&daemon, &request("GET", "/v1/version", ""));
    assert!(
        version.contains(&format!("\"pid\":{}", daemon.pid())),
        "{version}"
    );
    daemon.stop();
}

#[test]
fn clients_that_say_nothing_are_hung_up_on_and_others_served() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    // More than are served at once, and some that stop half-way.
    let mut slow: Vec<UnixStream> = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(daemon.api()).unwrap();
        stream.write_all(b"GET /v1/dev").unwrap();
        slow.push(stream);
    }
    let begun = Instant::now();
    let status = pollux(&daemon, &["status", "d0"]);
    assert_eq!(status.status.code(), Some(0), "{:?}", status);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let mut rest = Vec::new();
    slow[0]
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    slow[0].read_to_end(&mut rest).unwrap();
    daemon.stop();
}

/// What this process may have of open files, until it is dropped: as many as the system lets it.
struct ManyFiles {
    before: (u64, u64),
}

impl ManyFiles {
    fn new() -> Self {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, before.1, before.1).unwrap();
        Self { before }
    }

    /// Returns how many of `wanted` connections that allows.
    fn allow(&self, wanted: usize) -> usize {
        wanted.min(self.before.1 as usize - 200)
    }
}

impl Drop for ManyFiles {
    fn drop(&mut self) {
        let (soft, hard) = self.before;
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    }
}

#[test]
fn ten_thousand_connections_that_say_nothing_keep_nobody_waiting() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let folder = format!("/proc/{}/fd", daemon.pid());
    let open_files = || std::fs::read_dir(&folder).unwrap().count();
    let before = open_files();
    let mut silent = Vec::new();
    let files = ManyFiles::new();
    for number in 0..files.allow(10_000) {
        let mut stream = UnixStream::connect(daemon.api()).unwrap();
        if number % 2 == 1 {
            // All but the last byte.
            let request = request("PUT", "/v1/log-level", "{\"level\": \"off\"}");
            // It may have been hung up on already.
            let _ = stream.write_all(&request.as_bytes()[..request.len() - 1]);
        }
        silent.push(stream);
        if number % 500 == 0 {
            let begun = Instant::now();
            let (status, answer) = ask(&daemon, &request("GET", "/v1/version", ""));
            assert_eq!(status, 200, "{number}: {answer}");
            let waited = begun.elapsed();
            // Without room made for it, it would wait 10 s for each 64 of them.
            assert!(waited < Duration::from_secs(10), "{number}: {waited:?}");
        }
    }
    assert!(open_files() < before + 100, "{} open files", open_files());
    drop(silent);
    daemon.until("it is there for others", |shown| shown["name"] == "d0");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn metrics_are_those_of_the_devices() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let printed = pollux(&daemon, &["metrics"]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed.contains("pollux_device_up{device=\"d0\"} 1"),
        "{printed}"
    );
    let (status, asked) = ask(&daemon, &request("GET", "/metrics", ""));
    assert_eq!(status, 200);
    let names = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("# TYPE"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&asked), names(&printed));
    daemon.stop();
}

/// Asks until the daemon can neither answer nor take more.
fn ask_and_do_not_read(daemon: &Daemon) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.api()).unwrap();
    let patience = Some(Duration::from_secs(1));
    stream.set_write_timeout(patience).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: pollux\r\n\r\n".repeat(100);
    while stream.write_all(&request).is_ok() {}
    stream
}

#[test]
fn a_client_that_does_not_read_is_hung_up_on() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let mut stream = ask_and_do_not_read(&daemon);
    let begun = Instant::now();
    let hung_up = |stream: &mut UnixStream| {
        let written = stream.write_all(b"x");
        written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    };
    while !hung_up(&mut stream) {
        assert!(begun.elapsed() < Duration::from_secs(30), "still connected");
    }
    daemon.stop();
}

#[test]
fn no_client_keeps_the_daemon_from_its_end() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let deaf = ask_and_do_not_read(&daemon);
    let mut slow = UnixStream::connect(daemon.api()).unwrap();
    slow.write_all(b"GET /v1/dev").unwrap();
    // So that a daemon that does wait for them fails the test instead of hanging it.
    let clients = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(9));
        drop((deaf, slow));
    });
    let begun = Instant::now();
    daemon.stop();
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "{:?}",
        begun.elapsed()
    );
    clients.join().unwrap();
}

#[test]
fn the_document_lists_what_there_is_and_all_of_it_is_answered() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let (status, text) = ask(&daemon, &request("GET", "/v1/openapi.json", ""));
    assert_eq!(status, 200, "{text}");
    let document: Value = serde_json::from_str(&text).expect(&text);
    let paths = document["paths"].as_object().expect(&text);
    for path in ["/metrics", "/v1/devices/{name}/resize", "/v1/openapi.json"] {
        assert!(paths.contains_key(path), "{path}: {text}");
    }
    for (path, item) in paths {
        if item["get"].is_null() {
            continue;
        }
        let path = path.replace("{name}", "d0");
        let (status, answer) = ask(&daemon, &request("GET", &path, ""));
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let (_, workers) = ask(&daemon, &request("GET", "/v1/workers", ""));
    let workers: Value = serde_json::from_str(&workers).expect(&workers);
    assert_eq!(workers[0]["queues"][0]["device"], "d0", "{workers}");
    daemon.stop();
}

#[test]
fn the_log_is_made_to_say_more_and_less() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let level = || ask(&daemon, &request("GET", "/v1/log-level", ""));
    assert_eq!(level(), (200, "{\"level\":\"info\"}".into()));
    for (word, status) in [("debug", 200), ("off", 200), ("loud", 422)] {
        let body = format!("{{\"level\": \"{word}\"}}");
        let (found, answer) = ask(&daemon, &request("PUT", "/v1/log-level", &body));
        assert_eq!(found, status, "{answer}");
    }
    assert_eq!(level(), (200, "{\"level\":\"off\"}".into()));
    let printed = |args: &[&str]| {
        let output = pollux(&daemon, args);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let told = |word| (Some(0), format!("process {}: {word}\n", daemon.pid()));
    assert_eq!(printed(&["log-level", "warn"]), told("warn"));
    assert_eq!(printed(&["log-level"]), told("warn"));
    let (code, said) = printed(&["log-level", "loud"]);
    assert!(
        code == Some(2) && said.contains("off, error, warn"),
        "{said}"
    );
    let (_, shown) = printed(&["log-level", "off", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect(&shown);
    assert_eq!(
        (&shown[0]["pid"], &shown[0]["level"]),
        (&daemon.pid().into(), &"off".into())
    );
    // What it would have told of a frontend that leaves.
    let before = daemon.log();
    drop(UnixStream::connect(daemon.socket()).unwrap());
    daemon.until("the frontend has left", |shown| shown["resets"] == 1);
    assert_eq!(daemon.log(), before);
    daemon.stop();
}

#[test]
fn over_tcp_only_those_are_answered_who_know_the_token() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "a-token-of-a-test\n").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let file = path.to_str().unwrap();
    let options = ["--listen", "127.0.0.1:0", "--token-file", file];
    let daemon = Daemon::serve("null,size=1G", &options);
    let log = daemon.log();
    let told = log.split("control API listens on ").nth(1).expect(&log);
    let address = told.split_whitespace().next().expect(&log);
    for (authorization, status) in [
        ("", 401),
        ("authorization: Bearer\r\n", 401),
        ("authorization: Bearer a-token-of-a-tess\r\n", 401),
        ("authorization: Basic a-token-of-a-test\r\n", 401),
        ("authorization: Bearer a-token-of-a-test\r\n", 200),
    ] {
        for path in ["/metrics", "/v1/devices", "/v1/nothing"] {
            let text = format!(
                "GET {path} HTTP/1.1\r\nhost: pollux\r\nconnection: close\r\n{authorization}\r\n"
            );
            let stream = TcpStream::connect(address).unwrap();
            let (found, answer) = exchange(stream, &text);
            let expected = match (path, status) {
                ("/v1/nothing", 200) => 404,
                (_, status) => status,
            };
            assert_eq!(found, expected, "{path} with {authorization:?}: {answer}");
        }
    }
    daemon.stop();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let mut refused = Command::new(env!("CARGO_BIN_EXE_pollux"));
    refused.args(["serve", "--name", "d0", "--backend", "null,size=1G"]);
    let refused = refused.args(options).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn other_users_are_refused_even_where_the_socket_lets_them_connect() {
    let _alone = alone();
    if !nix::unistd::geteuid().is_root() {
        // Only root can be somebody else here.
        return;
    }
    let daemon = Daemon::serve("null,size=1G", &[]);
    let run = daemon.api().parent().unwrap().to_owned();
    for open in [daemon.api(), run.clone(), run.parent().unwrap().to_owned()] {
        std::fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
    }
    let socket = daemon.api();
    // Linux has a user for each thread, and glibc's setuid changes all of them.
    let asked = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_uid(nobody).unwrap();
        let stream = UnixStream::connect(socket).unwrap();
        exchange(stream, &request("GET", "/v1/devices", ""))
    });
    let (status, answer) = asked.join().unwrap();
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("only root"), "{answer}");
    daemon.stop();
}
