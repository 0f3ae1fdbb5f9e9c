//! `pollux bench gate`: a build that is slower is a regression, and one beside itself differs little.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::guest::{Output, Running, in_guest, run};

const LIMIT: Duration = Duration::from_secs(300);
/// Above it a loss of nearly all is not surely told from noise.
const NOISE_MAX: f64 = 1.0;

/// What a gate says of IOPS, and how it ends.
#[derive(Debug)]
struct Found {
    code: i32,
    verdict: String,
    effect: f64,
    noise: f64,
}

impl Found {
    /// Reads what was printed, and holds the exit code against it.
    fn of(output: Output) -> Self {
        let code = output.status.code().expect("it was not killed");
        let printed: serde_json::Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let judgement = &printed["findings"][0]["judgement"];
        let number = |name: &str| judgement[name].as_f64().expect(name);
        let verdict = printed["verdict"].as_str().expect("a verdict").to_owned();
        let expected = match verdict.as_str() {
            "pass" | "improvement" => 0,
            "regression" => 3,
            _ => 1,
        };
        assert_eq!(code, expected, "{verdict}");
        // Three servers in each of three rounds.
        let points = printed["comparison"]["points"].as_array().map(Vec::len);
        assert_eq!(points, Some(9));
        Self {
            code,
            verdict,
            effect: number("effect"),
            noise: number("noise"),
        }
    }
}

/// Runs a short gate of `baseline` and `candidate`.
fn gate(baseline: &str, candidate: &str) -> Output {
    let short = [
        "--iodepth",
        "1",
        "--rounds",
        "3",
        "--runtime",
        "1",
        "--ramp-time",
        "0.5",
        "--json",
    ];
    let named = [
        "bench",
        "gate",
        "--baseline",
        baseline,
        "--candidate",
        candidate,
    ];
    Running::program("pollux", &[&named[..], &short].concat()).wait(LIMIT)
}

/// Writes a program to `path` that is `pollux`, but each request to its null disk takes 100 ms more.
fn write_slow(path: &Path, pollux: &str) {
    let script = format!(
        "#!/bin/sh\n\
         for word; do\n\
         shift\n\
         case $word in null,*) word=\"delay,latency=100ms:$word\" ;; esac\n\
         set -- \"$@\" \"$word\"\n\
         done\n\
         exec {pollux} \"$@\"\n"
    );
    fs::write(path, script).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its rights");
}

#[test]
fn a_slower_build_is_a_regression_and_the_same_differs_little() {
    in_guest(|| {
        let pollux = run("sh", &["-c", "command -v pollux"]).succeeded();
        let pollux = pollux.trim();
        let folder = tempfile::tempdir().expect("a folder");
        let slow = folder.path().join("slow");
        write_slow(&slow, pollux);
        let slow = slow.to_str().expect("UTF-8");

        let slower = Found::of(gate(pollux, slow));
        assert!(slower.effect < -0.5, "{slower:?}");
        // A machine that others use may be too noisy for any verdict, and says so.
        let expected = match slower.noise < NOISE_MAX {
            true => ("regression", 3),
            false => (&*slower.verdict, slower.code),
        };
        assert_eq!((&*slower.verdict, slower.code), expected, "{slower:?}");
        assert!(
            ["regression", "inconclusive"].contains(&&*slower.verdict),
            "{slower:?}"
        );

        // How rarely the same build is called slower is shown on simulated rounds: three real ones tell little.
        let same = Found::of(gate(pollux, pollux));
        assert!(same.effect > -0.5, "{same:?}");
    });
}
