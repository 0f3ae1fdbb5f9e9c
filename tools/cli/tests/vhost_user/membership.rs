//! Devices that are added to a daemon and removed from it while it serves.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::api::{ask, request};
use crate::client::Client;
use crate::daemon::{Daemon, pollux};
use crate::{SPLIT, alone, prove};

/// One device.
const FILE: &str =
    "[[device]]\nname = \"d0\"\nbackend = \"ram,size=64M\"\nvhost_user = \"FOLDER/d0.vhost\"\n";

/// Returns exit code, standard output and standard error.
fn run(daemon: &Daemon, args: &[&str]) -> (Option<i32>, String, String) {
    let output = pollux(daemon, args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Returns the names of all devices.
fn names(daemon: &Daemon) -> Vec<String> {
    let (code, shown, said) = run(daemon, &["list", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let shown: Value = serde_json::from_str(&shown).expect(&shown);
    let devices = shown.as_array().expect("a list").iter();
    devices
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_device_comes_and_goes_while_another_is_used() {
    let _alone = alone();
    let daemon = Daemon::configured(FILE);
    let mut kept = Client::connect(daemon.socket(), SPLIT, 1);
    prove(&mut kept, 1, 1);
    let socket = daemon.at("d1.vhost");
    let add = [
        "add",
        "d1",
        "--backend",
        "ram,size=64M",
        "--vhost-user",
        &socket,
    ];
    assert_eq!(
        run(&daemon, &add),
        (Some(0), format!("{socket}\n"), String::new())
    );
    assert_eq!(names(&daemon), ["d0", "d1"]);
    let mut added = Client::connect(&socket, SPLIT, 1);
    prove(&mut added, 1, 2);
    prove(&mut kept, 1, 3);
    let (code, _, said) = run(&daemon, &add);
    assert!(
        code == Some(1) && said.contains("d1 is served already"),
        "{said}"
    );
    let (code, _, said) = run(&daemon, &["remove", "d1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!Path::new(&socket).exists(), "its socket stays behind");
    prove(&mut kept, 1, 4);
    let (code, _, said) = run(&daemon, &["remove", "d1"]);
    assert!(
        code == Some(1) && said.contains("d1 is not served"),
        "{said}"
    );
    drop(kept);
    daemon.stop();
}

#[test]
fn who_looks_while_devices_come_and_go_sees_none_that_is_ill() {
    let _alone = alone();
    let daemon = Daemon::configured(FILE);
    let body =
        json!({"name": "d1", "backend": "null,size=1G", "vhost_user": daemon.at("d1.vhost")});
    let (add, remove) = (
        request("POST", "/v1/devices", &body.to_string()),
        request("DELETE", "/v1/devices/d1", ""),
    );
    let is_over = AtomicBool::new(false);
    let looked = std::thread::scope(|scope| {
        let looks = ["/v1/devices", "/v1/health", "/metrics"].map(|path| {
            let (daemon, is_over) = (&daemon, &is_over);
            scope.spawn(move || {
                let mut looked = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let (status, answer) = ask(daemon, &request("GET", path, ""));
                    assert_eq!(status, 200, "{answer}");
                    let is_down = answer.contains("pollux_device_up{device=\"d1\"} 0");
                    assert!(!is_down, "{answer}");
                    looked += 1;
                }
                looked
            })
        });
        for _ in 0..50 {
            assert_eq!(ask(&daemon, &add).0, 201);
            assert_eq!(ask(&daemon, &remove).0, 200);
        }
        is_over.store(true, Ordering::Relaxed);
        looks.map(|look| look.join().unwrap())
    });
    assert!(looked.iter().all(|looked| *looked > 50), "{looked:?}");
    daemon.stop();
}

#[test]
fn the_file_is_the_truth_at_the_next_reload() {
    let _alone = alone();
    let daemon = Daemon::configured(FILE);
    let sockets = ["d1", "d2"].map(|name| daemon.at(name));
    for (name, socket) in ["d1", "d2"].iter().zip(&sockets) {
        let options = ["--backend", "null,size=1G", "--vhost-user", socket];
        let (code, _, said) = run(&daemon, &[&["add", name], &options[..]].concat());
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(run(&daemon, &["remove", "d0"]).0, Some(0));
    let path = daemon.at("pollux.toml");
    let d1 = format!(
        "[[device]]\nname = \"d1\"\nbackend = \"null,size=1G\"\nvhost_user = \"{}\"\n",
        sockets[0]
    );
    std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + &d1).unwrap();
    let (code, shown, said) = run(&daemon, &["reload", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let shown: Value = serde_json::from_str(&shown).expect(&shown);
    let expected = json!([{"added": ["d0"], "removed": ["d2"], "changed": [], "failed": {}}]);
    assert_eq!(shown, expected);
    assert_eq!(names(&daemon), ["d0", "d1"]);
    daemon.stop();
}

#[test]
fn a_device_that_cannot_be_served_is_refused_and_leaves_nothing() {
    let _alone = alone();
    let daemon = Daemon::configured(FILE);
    let socket = daemon.at("d1.vhost");
    let body = |name: &str, backend: &str, key: &str, value: Value| {
        json!({"name": name, "backend": backend, "vhost_user": socket, key: value}).to_string()
    };
    let null = "null,size=1G";
    for (body, status, word) in [
        (
            body("d1", null, "cpu", json!(1)),
            400,
            "did you mean `cpus`?",
        ),
        (
            body("d1", null, "poll", json!("fast")),
            400,
            "'fast' for `poll`",
        ),
        (
            body("d1", null, "queue_size", json!(100)),
            400,
            "power of two",
        ),
        (
            body("d1", null, "attach", json!("virtio")),
            400,
            "cannot be used with",
        ),
        (body("d/1", null, "queues", json!(1)), 400, "for `name`"),
        (
            body("d1", "rum,size=1M", "queues", json!(1)),
            400,
            "for `backend`",
        ),
        (body("d1", null, "queues", json!(true)), 422, "whole number"),
        (
            body("d0", null, "queues", json!(1)),
            409,
            "d0 is served already",
        ),
        (
            body("d1", "file,path=/none", "queues", json!(1)),
            409,
            "cannot open /none",
        ),
        (json!({"name": "d1"}).to_string(), 422, "backend"),
        ("[]".to_owned(), 422, "DeviceBody"),
    ] {
        let (found, answer) = ask(&daemon, &request("POST", "/v1/devices", &body));
        assert_eq!(found, status, "{body}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect(&answer);
        let error = answer["error"].as_str().expect("an error");
        assert!(
            error.contains(word) && !error.contains("--"),
            "{body}: {error}"
        );
    }
    assert_eq!(names(&daemon), ["d0"]);
    assert!(!Path::new(&socket).exists());
    let (status, answer) = ask(&daemon, &request("DELETE", "/v1/devices/d1", ""));
    assert_eq!(status, 404, "{answer}");
    let sound = body("d1", null, "queues", json!(1));
    let (status, answer) = ask(&daemon, &request("POST", "/v1/devices", &sound));
    assert_eq!(status, 201, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect(&answer);
    assert_eq!(
        (&answer["name"], &answer["node"]),
        (&json!("d1"), &json!(socket))
    );
    let (status, answer) = ask(&daemon, &request("DELETE", "/v1/devices/d1", ""));
    assert_eq!((status, answer.as_str()), (200, "null"));
    daemon.stop();
}

#[test]
fn a_daemon_without_a_configuration_takes_no_device() {
    let _alone = alone();
    let daemon = Daemon::serve("null,size=1G", &[]);
    let (code, _, said) = run(&daemon, &["add", "d1", "--backend", "null,size=1G"]);
    assert!(
        code == Some(1) && said.contains("pollux serve --config"),
        "{said}"
    );
    let (code, _, said) = run(&daemon, &["add", "d1"]);
    assert!(code == Some(2) && said.contains("--backend"), "{said}");
    daemon.stop();
}

#[test]
fn the_document_describes_every_key_of_a_device() {
    let _alone = alone();
    let daemon = Daemon::configured(FILE);
    let (status, text) = ask(&daemon, &request("GET", "/v1/openapi.json", ""));
    assert_eq!(status, 200, "{text}");
    let document: Value = serde_json::from_str(&text).expect(&text);
    let schema = &document["components"]["schemas"]["DeviceBody"];
    assert_eq!(schema["required"], json!(["name", "backend"]), "{schema}");
    assert_eq!(schema["additionalProperties"], json!(false));
    let keys = schema["properties"].as_object().expect("keys");
    let mut body = json!({"name": "d1", "backend": "null,size=1G"});
    for (name, key) in keys {
        let meaning = key["description"].as_str().expect(name);
        let has_kind = !key["type"].is_null() || !key["anyOf"].is_null();
        assert!(has_kind && !meaning.is_empty(), "{name}: {key}");
        if !key["default"].is_null() && !meaning.contains("`vhost_user`") {
            body[name] = key["default"].clone();
        }
    }
    // Saying what goes without saying makes no difference.
    assert!(body.as_object().unwrap().len() > 8, "{body}");
    body["vhost_user"] = json!(daemon.at("d1.vhost"));
    let (status, answer) = ask(&daemon, &request("POST", "/v1/devices", &body.to_string()));
    assert_eq!(status, 201, "{body}: {answer}");
    body["queues"] = json!([1]);
    let (status, answer) = ask(&daemon, &request("POST", "/v1/devices", &body.to_string()));
    assert!(
        status == 400 && answer.contains("queues: a list"),
        "{answer}"
    );
    daemon.stop();
}
