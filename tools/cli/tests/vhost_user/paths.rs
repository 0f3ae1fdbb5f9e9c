//! A configuration that says where its disks may be: what is outside is refused by name, and by the kernel.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::alone;
use crate::api::{ask, request};
use crate::client::{BLOCK, Client};
use crate::daemon::{Daemon, pollux};
use crate::{SPLIT, prove};

/// One device, with its disk in DISKS.
const FILE: &str = "paths = [\"DISKS\"]
[[device]]
name = \"d0\"
backend = \"file,path=DISKS/d0\"
vhost_user = \"FOLDER/run/d0.vhost\"
";

/// The folder of disks `disks`, and `others` that are none of the daemon's.
struct Disks(tempfile::TempDir);

impl Disks {
    fn new() -> Self {
        let disks = Self(tempfile::tempdir().unwrap());
        for folder in ["disks", "others"] {
            disks.make(folder, &["d0", "d1"]);
        }
        disks
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Makes `folder` with files of a block each.
    fn make(&self, folder: &str, files: &[&str]) {
        fs::create_dir(self.at(folder)).unwrap();
        for name in files {
            fs::write(self.at(folder) + "/" + name, [7; 64 * BLOCK]).unwrap();
        }
    }

    fn configuration(&self) -> String {
        FILE.replace("DISKS", &self.at("disks"))
    }
}

/// Asks for `d1` over the API, with its disk at `path`. Returns status and answer.
fn add(daemon: &Daemon, path: &str) -> (u16, String) {
    let socket = daemon.at("run/d1.vhost");
    let backend = format!("file,path={path}");
    let body = json!({"name": "d1", "backend": backend, "vhost_user": socket});
    ask(daemon, &request("POST", "/v1/devices", &body.to_string()))
}

fn remove(daemon: &Daemon) {
    let (status, answer) = ask(daemon, &request("DELETE", "/v1/devices/d1", ""));
    assert_eq!(status, 200, "{answer}");
}

/// Checks that `said` names the path, the reason and the remedy.
fn is_refusal(said: &str, path: &str, disks: &Disks) {
    for part in [
        path,
        "outside of `paths`",
        &disks.at("disks"),
        "start the daemon anew",
    ] {
        assert!(said.contains(part), "no {part}: {said}");
    }
}

#[test]
fn a_device_outside_is_refused_before_anything_is_opened() {
    let _alone = alone();
    let disks = Disks::new();
    let daemon = Daemon::configured(&disks.configuration());
    let mut client = Client::connect(&daemon.at("run/d0.vhost"), SPLIT, 1);
    // Opening what is not there would have been refused in other words.
    for path in [disks.at("others/d1"), disks.at("nowhere/d1")] {
        let (status, answer) = add(&daemon, &path);
        assert_eq!(status, 409, "{answer}");
        is_refusal(&answer, &path, &disks);
        let backend = format!("file,path={path}");
        let added = pollux(&daemon, &["add", "d1", "--backend", &backend]);
        assert_eq!(added.status.code(), Some(1));
        is_refusal(&String::from_utf8_lossy(&added.stderr), &path, &disks);
    }
    let socket = disks.at("others/d1.vhost");
    let outside = ["add", "d1", "--backend", "null,size=1G", "--vhost-user"];
    let added = pollux(&daemon, &[&outside[..], &[&socket]].concat());
    is_refusal(&String::from_utf8_lossy(&added.stderr), &socket, &disks);
    // What is inside comes and goes, also with a reload, for which the file is read anew.
    assert_eq!(add(&daemon, &disks.at("disks/d1")).0, 201);
    remove(&daemon);
    let file = daemon.at("pollux.toml");
    let text = fs::read_to_string(&file).unwrap();
    let more = |path: &str| {
        let socket = daemon.at("run/d1.vhost");
        format!(
            "{text}[[device]]\nname = \"d1\"\nbackend = \"file,path={path}\"\nvhost_user = \"{socket}\"\n"
        )
    };
    let replacement = daemon.at("new.toml");
    fs::write(&replacement, more(&disks.at("disks/d1"))).unwrap();
    fs::rename(&replacement, &file).unwrap();
    let reloaded = pollux(&daemon, &["reload"]);
    let said = String::from_utf8_lossy(&reloaded.stdout).into_owned();
    assert!(said.contains("d1: added"), "{said}{}", daemon.log());
    fs::write(&file, more(&disks.at("others/d1"))).unwrap();
    let reloaded = pollux(&daemon, &["reload"]);
    assert_eq!(reloaded.status.code(), Some(1));
    let said = String::from_utf8_lossy(&reloaded.stderr).into_owned();
    is_refusal(&said, &disks.at("others/d1"), &disks);
    assert!(said.contains("pollux.toml:8:1"), "{said}");
    prove(&mut client, 1, 1);
    drop(client);
    daemon.stop();
}

#[test]
fn other_paths_count_from_the_next_start() {
    let _alone = alone();
    let disks = Disks::new();
    let daemon = Daemon::configured(&disks.configuration());
    let file = daemon.at("pollux.toml");
    let text = fs::read_to_string(&file).unwrap();
    let both = format!("\"{}\", \"{}\"]", disks.at("disks"), disks.at("others"));
    let wider = text.replace(&format!("\"{}\"]", disks.at("disks")), &both);
    assert_ne!(wider, text);
    let socket = daemon.at("run/d1.vhost");
    let more = format!(
        "[[device]]\nname = \"d1\"\nbackend = \"file,path={}\"\nvhost_user = \"{socket}\"\n",
        disks.at("others/d1")
    );
    fs::write(&file, wider + &more).unwrap();
    let reloaded = pollux(&daemon, &["reload", "--json"]);
    let said = String::from_utf8_lossy(&reloaded.stdout).into_owned();
    assert!(said.contains("\"paths\""), "{said}");
    is_refusal(&said, &disks.at("others/d1"), &disks);
    daemon.stop();
}

#[test]
fn the_kernel_refuses_what_is_outside() {
    let _alone = alone();
    for (sandbox, is_refused) in [("on", true), ("off", false)] {
        let disks = Disks::new();
        let daemon = Daemon::configured_with(&disks.configuration(), &["--sandbox", sandbox]);
        assert!(
            !daemon.log().contains("no landlock"),
            "this kernel has no landlock: boot one with CONFIG_SECURITY_LANDLOCK=y and lsm=landlock"
        );
        assert_eq!(add(&daemon, &disks.at("disks/d1")).0, 201, "{sandbox}");
        remove(&daemon);
        // The same name, and not what the daemon was left with.
        fs::rename(disks.at("disks"), disks.at("before")).unwrap();
        disks.make("disks", &["d1"]);
        let path = disks.at("disks/d1");
        let (status, answer) = add(&daemon, &path);
        if is_refused {
            assert_eq!(status, 409, "{answer}");
            assert!(
                answer.contains(&path) && answer.contains("Permission denied"),
                "{answer}"
            );
            assert!(!Path::new(&daemon.at("run/d1.vhost")).exists());
        } else {
            assert_eq!(status, 201, "{answer}");
        }
        daemon.stop();
    }
}
