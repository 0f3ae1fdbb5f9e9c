//! Who may use whom: the edges between the crates of the workspace, and between the modules of the data
//! path in the order that its `lib.rs` states.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every crate, and which of the others it may use.
const CRATES: [(&str, &[&str]); 7] = [
    (
        "pollux",
        &[
            "pollux-bench",
            "pollux-control",
            "pollux-dataplane",
            "pollux-toml",
            "pollux-vm",
            "vduse",
        ],
    ),
    ("pollux-bench", &["pollux-dataplane", "pollux-toml"]),
    ("pollux-control", &["pollux-dataplane", "vduse"]),
    ("pollux-dataplane", &[]),
    ("pollux-toml", &[]),
    ("pollux-vm", &[]),
    ("vduse", &[]),
];

/// What does I/O on behalf of people, and has no place in a queue's thread.
const NOT_IN_DATAPLANE: [&str; 7] = ["axum", "clap", "hyper", "serde", "tokio", "toml", "tracing"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the workspace is there")
}

/// Returns the direct dependencies of every crate of the workspace, those of its tests included.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let direct = package["dependencies"].as_array().expect("dependencies");
            (name(package), direct.iter().map(name).collect())
        })
        .collect()
}

/// Returns what is wrong with `dependencies`.
fn wrong_crate_edges(dependencies: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let ours: BTreeMap<_, _> = CRATES.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, direct) in dependencies {
        let Some(allowed) = ours.get(name.as_str()) else {
            wrong.push(format!("{name} is not in the list of crates"));
            continue;
        };
        for used in direct.iter().map(String::as_str) {
            let misplaced = name == "pollux-dataplane" && NOT_IN_DATAPLANE.contains(&used);
            if misplaced || (ours.contains_key(used) && !allowed.contains(&used)) {
                wrong.push(format!("{name} -> {used}"));
            }
        }
    }
    wrong
}

#[test]
fn crates_use_only_those_below_them() {
    let dependencies = dependencies();
    let found: Vec<&str> = dependencies.keys().map(String::as_str).collect();
    let expected = CRATES.map(|(name, _)| name);
    assert_eq!(found, expected, "the crates of the workspace");
    assert_eq!(wrong_crate_edges(&dependencies), [""; 0]);
}

#[test]
fn a_wrong_edge_between_crates_is_found() {
    for (from, to) in [
        ("pollux-dataplane", "vduse"),
        ("pollux-dataplane", "tokio"),
        ("vduse", "pollux-control"),
        ("pollux-bench", "pollux-control"),
        ("pollux-control", "pollux"),
    ] {
        let planted = BTreeMap::from([(from.to_owned(), vec!["libc".into(), to.to_owned()])]);
        assert_eq!(wrong_crate_edges(&planted), [format!("{from} -> {to}")]);
    }
    let unknown = BTreeMap::from([("pollux-extra".to_owned(), Vec::new())]);
    assert_eq!(wrong_crate_edges(&unknown).len(), 1);
}

/// The rank of each module; equal ones do not know of each other.
type Ranks = BTreeMap<String, usize>;

/// Reads the order out of the documentation of a crate: `a < b < {c, d} < e`.
fn ranks(documentation: &str) -> Ranks {
    let line = documentation
        .lines()
        .filter_map(|line| line.strip_prefix("//! `"))
        .find(|line| line.contains(" < "))
        .expect("lib.rs states the order of its modules");
    let levels = line.trim_end_matches('`').split(" < ").enumerate();
    levels
        .flat_map(|(rank, level)| {
            let names = level.trim_matches(['{', '}']).split(", ");
            names.map(move |name| (name.to_owned(), rank))
        })
        .collect()
}

/// Returns `source` without its comments, documentation included.
fn without_comments(source: &str) -> String {
    let code = |line: &str| {
        let end = line.find("//").unwrap_or(line.len());
        line[..end].to_owned() + "\n"
    };
    source.lines().map(code).collect()
}

/// Returns the first segments of the paths in `list`, which is what follows `{`, up to its `}`.
fn heads_of_list(list: &str) -> Vec<&str> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(head(list[start..at].trim_start()));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// Returns the identifier, or `*`, that `path` starts with.
fn head(path: &str) -> &str {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '*';
    let end = path.find(|letter| !is_part(letter)).unwrap_or(path.len());
    &path[..end]
}

/// Returns every module of the crate that `source` names: `crate::x`, `crate::{x::Y, z}`, in imports
/// and inline, and `super::super::x` as far as it reaches the root.
fn modules_named(source: &str, ranks: &Ranks) -> Vec<String> {
    let source = without_comments(source);
    let mut found = Vec::new();
    for (at, prefix) in source.match_indices("crate::") {
        let path = &source[at + prefix.len()..];
        match path.strip_prefix('{') {
            Some(list) => found.extend(heads_of_list(list)),
            None => found.push(head(path)),
        }
    }
    for (at, prefix) in source.match_indices("super::super::") {
        let name = head(&source[at + prefix.len()..]);
        if ranks.contains_key(name) {
            found.push(name);
        }
    }
    found.into_iter().map(str::to_owned).collect()
}

/// Returns what is wrong with the edges from `source`, a file of `module`.
fn wrong_module_edges(module: &str, source: &str, ranks: &Ranks) -> Vec<String> {
    let Some(own) = ranks.get(module) else {
        return vec![format!("{module} has no place in the order")];
    };
    let is_wrong =
        |used: &String| used != module && ranks.get(used).is_none_or(|theirs| theirs >= own);
    let used = modules_named(source, ranks).into_iter();
    used.filter(is_wrong)
        .map(|used| format!("{module} -> {used}"))
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn modules_of_the_data_path_use_only_those_below_them() {
    let source = root().join("dataplane/src");
    let library = fs::read_to_string(source.join("lib.rs")).expect("lib.rs");
    let ranks = ranks(&library);
    let mut seen = 0;
    for path in rust_files(&source) {
        let inside = path.strip_prefix(&source).expect("found below it");
        let first = inside.iter().next().expect("a file").to_string_lossy();
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("UTF-8");
        seen += modules_named(&text, &ranks).len();
        let wrong = wrong_module_edges(module, &text, &ranks);
        assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
    }
    assert!(seen > 50, "only {seen} edges seen: the scan is blind");
}

#[test]
fn the_order_is_read_from_the_documentation() {
    let ranks = ranks("//! Title.\n//!\n//! `low < {left, right} < high`\n");
    let pairs: Vec<(&str, usize)> = ranks.iter().map(|(name, &rank)| (&**name, rank)).collect();
    assert_eq!(pairs, [("high", 2), ("left", 1), ("low", 0), ("right", 1)]);
}

#[test]
fn a_wrong_edge_between_modules_is_found_however_it_is_written() {
    let ranks = ranks("//! `low < {left, right} < high`");
    for planted in [
        "use crate::high::Thing;",
        "use crate::{low, high::Thing};",
        "use crate::{\n    low::{self, Thing},\n    high::{A, B},\n};",
        "pub(crate) use crate::high;",
        "fn f() -> crate::high::Thing { todo() }",
        "fn f() { let x = low::f(crate::low::A, crate::high::B); }",
        "#[cfg(test)]\nmod tests {\n    use crate::high::Thing;\n}",
        "use super::super::high::Thing;",
        "macro_rules! m { () => { $crate::high::f() } }",
    ] {
        let wrong = wrong_module_edges("left", planted, &ranks);
        assert_eq!(wrong, ["left -> high"], "{planted}");
    }
    for (planted, expected) in [
        ("use crate::right::Thing;", "left -> right"),
        ("use crate::*;", "left -> *"),
        ("use crate::Thing;", "left -> Thing"),
    ] {
        let wrong = wrong_module_edges("left", planted, &ranks);
        assert_eq!(wrong, [expected]);
    }
    let unknown = wrong_module_edges("new", "", &ranks);
    assert_eq!(unknown, ["new has no place in the order"]);
}

#[test]
fn a_right_edge_and_a_comment_are_let_through() {
    let ranks = ranks("//! `low < {left, right} < high`");
    for right in [
        "use crate::low::{Thing, high};",
        "use crate::{low::{high, right}, left::part};",
        "//! See [`crate::high`].\n/// [x](crate::right)\nfn f() {} // crate::high",
        "use super::super::part;",
    ] {
        assert_eq!(
            wrong_module_edges("left", right, &ranks),
            [""; 0],
            "{right}"
        );
    }
}
