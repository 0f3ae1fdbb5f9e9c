//! `pollux bench run` with the transport vhost-user: its daemon, its rings, and what is left afterwards.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use super::alone;

const TEXT: &str = "name = \"short\"
transport = \"vhost-user\"
backend = \"ram,size=16M\"
rw = \"randrw\"
bs = \"4k\"
ramp_time_ms = 10
runtime_ms = 100
rounds = 1
[ring]
format = \"split\"
size = 256
[[loads]]
kind = \"closed\"
iodepths = [1, 16]
[[loads]]
kind = \"open\"
rates = [0.5]
";

fn run(text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("short.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollux"));
    command.args(["bench", "run", "--json"]).arg(file);
    command.output().unwrap()
}

#[test]
fn client_and_daemon_count_the_same_on_every_ring() {
    let _alone = alone();
    let rings = [
        "",
        "indirect = true\n",
        "in_order = true\nindirect = true\n",
    ];
    let packed = TEXT.replace("split", "packed");
    let texts = rings.map(|ring| TEXT.replace("size = 256\n", &format!("size = 256\n{ring}")));
    for text in texts.iter().chain([&packed]) {
        let output = run(text);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let run: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(run["scenario"]["transport"], "vhost-user");
        assert_eq!(run["ending"], "complete", "{said}");
        let points = run["points"].as_array().expect("points");
        assert_eq!(points.len(), 3, "{said}");
        for point in points {
            assert_eq!(
                (&point["errors"], &point["worker"]["errors"]),
                (&0.into(), &0.into())
            );
            let number = |value: &Value| value.as_u64().expect("a number");
            let (client, worker) = (number(&point["requests"]), &point["worker"]);
            // The daemon is asked a little earlier and later than the client looks at the clock.
            let apart = number(&worker["requests"]).abs_diff(client);
            assert!(client > 0 && apart <= client / 2 + 600, "{point}");
            let bytes = number(&worker["bytes_read"]) + number(&worker["bytes_written"]);
            assert_eq!(bytes, 4096 * number(&worker["requests"]), "{point}");
            assert!(number(&point["worker_thread"]["cpu_ns"]) > 0, "{point}");
        }
    }
}

#[test]
fn a_disk_that_does_not_suit_or_open_is_refused_in_one_line() {
    let _alone = alone();
    for (backend, expected) in [
        ("null,size=16M,ro=on", "read-only"),
        ("file,path=/no/such/file", "/no/such/file"),
    ] {
        let output = run(&TEXT.replace("ram,size=16M", backend));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty());
        assert!(said.contains(expected), "{said}");
    }
}
