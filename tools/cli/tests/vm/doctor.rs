//! `pollux doctor`: what it says is missing is missing, and what it prints mends it.

use crate::guest::{in_guest, pollux, run};

#[test]
fn a_missing_module_is_found_and_its_remedy_works() {
    in_guest(|| {
        assert_eq!(missing(), []);
        run("rmmod", &["vduse"]).succeeded();
        let found = missing();
        let failed = pollux(&["doctor"]);
        run("sh", &["-c", "modprobe vduse"]).succeeded();
        let remedy = "modprobe vduse".to_owned();
        let expected = ["module vduse", "/dev/vduse/control"];
        assert_eq!(
            found,
            expected.map(|check| (check.to_owned(), remedy.clone()))
        );
        assert_eq!(failed.status.code(), Some(1));
        assert!(
            failed.stdout.contains("-> modprobe vduse"),
            "{}",
            failed.stdout
        );
        assert_eq!(missing(), []);
        pollux(&["doctor"]).succeeded();
    });
}

/// Returns every check that failed, with its remedy.
fn missing() -> Vec<(String, String)> {
    let printed = pollux(&["doctor", "--json"]).stdout;
    let findings: serde_json::Value = serde_json::from_str(&printed).expect(&printed);
    let findings = findings.as_array().expect("a list").iter();
    let missing = findings.filter(|finding| finding["state"] == "missing");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    missing
        .map(|finding| (text(&finding["check"]), text(&finding["remedy"])))
        .collect()
}
