//! What every source file of the repository keeps to, and no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// The only files that may contain `unsafe`.
const UNSAFE: [&str; 34] = [
    "bench/src/spawn.rs",
    "bench/src/vhost/queue.rs",
    "control/src/daemon/pressure.rs",
    "control/src/device/umem.rs",
    "control/vduse/src/device/reopen.rs",
    "control/vduse/src/device/umem.rs",
    "control/vduse/src/ioctl.rs",
    "control/src/device/vhost_user/fd_slot.rs",
    "dataplane/fuzz/src/backend.rs",
    "dataplane/fuzz/src/memory.rs",
    "dataplane/src/backend/file/erase.rs",
    "dataplane/src/backend/held.rs",
    "dataplane/src/backend/nvme/request.rs",
    "dataplane/src/backend/nvme/vfio.rs",
    "dataplane/src/backend/passthrough/ioctl.rs",
    "dataplane/src/backend/uring/copy.rs",
    "dataplane/src/backend/uring/pieces.rs",
    "dataplane/src/backend/uring/queue.rs",
    "dataplane/src/backend/uring/ring.rs",
    "dataplane/src/mem/cell.rs",
    "dataplane/src/mem/dump.rs",
    "dataplane/src/mem/fault.rs",
    "dataplane/src/mem/prefetch.rs",
    "dataplane/src/mem/segment.rs",
    "dataplane/src/mem/translator.rs",
    "dataplane/src/ring/segments.rs",
    "dataplane/tests/allocations.rs",
    "dataplane/tests/deferred/mod.rs",
    "dataplane/tests/packed_virtio_driver.rs",
    "tools/cli/tests/vhost_user/client.rs",
    "tools/cli/tests/vm/hostile/good.rs",
    "tools/cli/tests/vm/vhost/kernel.rs",
    "tools/cli/tests/vm/vhost/memory.rs",
    "tools/vm/src/child.rs",
];

const LINES_MAX: usize = 450;

/// Put together here, so that this file does not find itself.
const UNFINISHED: [&str; 3] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("FIX", "ME"),
];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the workspace is there")
}

/// Adds every Rust file below `folder` to `files`. Hidden folders and those that cargo builds in are
/// left out.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() {
            let is_built = path.join("CACHEDIR.TAG").exists() || name == "target";
            if !name.starts_with('.') && !is_built {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

fn allows_unsafe(source: &str) -> bool {
    let is_attribute = |line: &str| line.starts_with("#[") || line.starts_with("#![");
    let lines = source.lines().map(str::trim_start);
    lines
        .filter(|line| is_attribute(line))
        .any(|line| line.contains("allow(") && line.contains("unsafe_code"))
}

/// Returns what is wrong with the file at `name`, relative to the root.
fn breaches(name: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A crate may open with its README.
    let openings = ["//! ", "#![doc = include_str!("];
    if !openings.iter().any(|it| source.starts_with(it)) {
        found.push(format!("{name} does not open with its documentation, //!"));
    }
    let lines = source.lines().count();
    if lines > LINES_MAX {
        found.push(format!(
            "{name} has {lines} lines, over {LINES_MAX}: split it"
        ));
    }
    if allows_unsafe(source) && !UNSAFE.contains(&name) {
        found.push(format!("{name} allows unsafe code and is not in the list"));
    }
    for marker in UNFINISHED {
        if source.contains(marker) {
            found.push(format!("{name} is unfinished: {marker}"));
        }
    }
    found
}

#[test]
fn every_file_is_tidy() {
    let root = root();
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 100, "only {} files found", files.len());
    let mut found = Vec::new();
    for path in files {
        let name = path.strip_prefix(&root).expect("found below it");
        let source = fs::read_to_string(&path).expect("UTF-8");
        found.extend(breaches(&name.to_string_lossy(), &source));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_list_of_unsafe_files_is_not_longer_than_needed() {
    for name in UNSAFE {
        let source = fs::read_to_string(root().join(name)).expect(name);
        assert!(allows_unsafe(&source), "{name} needs no place in the list");
    }
}

#[test]
fn each_breach_is_found() {
    let tidy = "//! A title.\n\n#![deny(unsafe_code)]\nfn f() {}\n";
    assert_eq!(breaches("a.rs", tidy), [""; 0]);
    let long = tidy.to_owned() + &"\n".repeat(LINES_MAX);
    let [attribute, inner] = ["#[allow(dead_code, unsafe_code)]", "#![allow(unsafe_code)]"];
    for planted in [
        "fn f() {}\n".to_owned(),
        "// A comment.\n//! Late.\n".to_owned(),
        long,
        format!("{tidy}{attribute}\nfn g() {{}}\n"),
        format!("{tidy}{inner}\n"),
        format!("{tidy}fn g() {{ {}) }}\n", UNFINISHED[0]),
        format!("{tidy}fn g() {{ {}) }}\n", UNFINISHED[1]),
        format!("{tidy}// {}: later\n", UNFINISHED[2]),
    ] {
        assert_eq!(breaches("a.rs", &planted).len(), 1, "{planted}");
    }
    let listed = format!("{tidy}{inner}\n");
    assert_eq!(breaches(UNSAFE[0], &listed), [""; 0]);
}
