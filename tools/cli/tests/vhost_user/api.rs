//! The control API and clients that make no sense, are slow, or are many.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::alone;
use crate::daemon::{Daemon, pollux};

/// Sends `text` and returns status and body of the answer.
fn ask(daemon: &Daemon, text: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(daemon.api()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // A daemon that refuses need not read all of it.
    let _ = stream.write_all(text.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    let status = head.split(' ').nth(1).expect(head);
    (status.parse().expect(head), body.to_owned())
}

fn request(method: &str, path: &str, body: &str) -> String {
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
        begun.elapsed() < Duration::from_secs(40),
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
