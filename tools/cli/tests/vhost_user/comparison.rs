//! `pollux bench compare --transport vhost-user`: on any Linux, with qemu-storage-daemon beside.

use std::process::Command;

use serde_json::Value;

use super::alone;

#[test]
fn both_servers_are_measured_in_every_round() {
    let _alone = alone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollux"));
    command.args(["bench", "compare", "--transport", "vhost-user", "--json"]);
    command.args(["--servers", "pollux,qemu", "--iodepth", "1,8"]);
    command.args(["--rounds", "2", "--runtime", "0.1", "--ramp-time", "0.1"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let comparison: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(comparison["ending"], "complete", "{said}");
    let mut seen = Vec::new();
    for point in comparison["points"].as_array().expect("points") {
        assert_eq!(point["load"]["errors"], 0, "{point}");
        let text = |key: &str| point[key].to_string();
        seen.push([text("round"), text("server"), text("iodepth")].join(" "));
    }
    let expected = [1, 2].iter().flat_map(|round| {
        let turns = ["pollux", "qemu"].iter();
        turns.flat_map(move |server| [1, 8].map(|depth| format!("{round} {server:?} {depth}")))
    });
    assert_eq!(seen, expected.collect::<Vec<_>>());
}
