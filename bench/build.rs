//! Tells the crate what it is built from: POLLUX_REVISION where that is set, as for a build without the repository,
//! otherwise what git says. Without both it is not known; nothing is fetched, and no time or path gets in.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=POLLUX_REVISION");
    let revision = std::env::var("POLLUX_REVISION").ok().or_else(described);
    if let Some(revision) = revision {
        println!("cargo:rustc-env=POLLUX_REVISION={revision}");
    }
}

/// Returns the commit, with `-dirty` behind it where files that git knows were changed since.
fn described() -> Option<String> {
    for place in ["logs/HEAD", "index"] {
        let path = git(&["rev-parse", "--path-format=absolute", "--git-path", place])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    // What the program is made of.
    for sources in [
        "Cargo.lock",
        "bench/src",
        "control",
        "dataplane/src",
        "tools/cli/src",
    ] {
        println!("cargo:rerun-if-changed=../{sources}");
    }
    git(&[
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty",
    ])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| text.trim().to_owned())
}
