//! Bad input: one clear line, an exit code of 1 or 2, and nothing left behind.

mod devices;
mod host;
mod names;
mod options;

use crate::guest::{Output, leftovers, pollux};

/// Runs `pollux` with `args`, which must fail as said and leave nothing behind.
fn refused(args: &[&str], code: i32, words: &[&str]) {
    assert_refused(&pollux(args), code, words);
    assert_eq!(leftovers(), [""; 0], "pollux {}", args.join(" "));
}

/// Fails unless `output` is one line on stderr that has all `words`, and `code`.
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let Output {
        label,
        status,
        stdout,
        stderr,
    } = output;
    eprintln!("{label}: {stderr}");
    assert_eq!(status.code(), Some(code), "{label}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{label}: {stderr}");
    assert!(stderr.starts_with("pollux: "), "{label}: {stderr}");
    assert!(!stderr.contains('\u{1b}'), "{label}: {stderr:?}");
    assert_eq!(stdout, "", "{label}");
    for word in words {
        assert!(stderr.contains(word), "{label}: no {word:?} in {stderr}");
    }
}

/// Serving `backend` with `options` must be refused as wrong usage.
fn serve_refused(backend: &str, options: &[&str], words: &[&str]) {
    let fixed = ["serve", "--name", "d0", "--backend", backend];
    refused(&[&fixed, options].concat(), 2, words);
}
