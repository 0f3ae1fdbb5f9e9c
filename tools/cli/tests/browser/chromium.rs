//! Chromium without a window: pages in frames of some width, and what `look.js` says about each.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use serde::Deserialize;

const LOOK: &str = include_str!("look.js");
/// Seconds after which a browser that hangs is ended.
const SECONDS_MAX: &str = "120";

/// What the reader prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// What was seen of a page at one width.
#[derive(Debug, Deserialize)]
pub(crate) struct Look {
    /// Place of the page in those that were given.
    pub(crate) page: usize,
    /// Width of what the page took for the screen, in pixels.
    pub(crate) width: u32,
    /// Whether it was told that the reader prefers dark.
    pub(crate) dark: bool,
    /// Elements with text.
    pub(crate) texts: usize,
    /// Charts.
    pub(crate) charts: usize,
    /// Marks in them.
    pub(crate) marks: usize,
    /// Labels of the figures.
    pub(crate) labels: usize,
    /// Faults, one a line.
    pub(crate) wrong: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Looks(Vec<Look>),
    Failed(String),
}

/// Lays every page out at every width and returns what was seen, in that order.
///
/// # Panics
/// There is no chromium, or it does not do what it should.
pub(crate) fn look(pages: &[String], widths: &[u32], scheme: Scheme) -> Vec<Look> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("frames.html");
    fs::write(&path, frames(pages, widths)).expect("frames");
    let preferred = match scheme {
        Scheme::Dark => 0,
        Scheme::Light => 1,
    };
    let profile = folder.path().join("profile");
    let output = Command::new("timeout")
        .args([
            "--kill-after=5",
            SECONDS_MAX,
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
        ])
        .args([
            "--disable-background-networking",
            "--disable-sync",
            "--no-first-run",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--blink-settings=preferredColorScheme={preferred}"))
        .arg(format!("file://{}", path.display()))
        .output()
        .expect("timeout, of coreutils");
    let text = String::from_utf8_lossy(&output.stdout);
    // The script itself is in the text, before what it says.
    let said = text
        .rsplit_once("SAID")
        .and_then(|(_, said)| said.split_once("DIAS"));
    let Some((said, _)) = said else {
        let errors = String::from_utf8_lossy(&output.stderr);
        panic!("chromium said nothing, {}: {errors}", output.status)
    };
    match serde_json::from_str(said).expect("JSON") {
        Said::Looks(looks) => looks,
        Said::Failed(reason) => panic!("look.js: {reason}"),
    }
}

/// The name of the program.
fn chromium() -> &'static str {
    const NAME: &str = "chromium";
    match Command::new(NAME).arg("--version").output() {
        Ok(output) if output.status.success() => NAME,
        Ok(output) => panic!("chromium --version: {output:?}"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("chromium: not found; apt-get install chromium fonts-dejavu-core")
        }
        Err(error) => panic!("chromium: {error}"),
    }
}

/// A page that has each of `pages` in a frame of each width.
fn frames(pages: &[String], widths: &[u32]) -> String {
    let mut html = format!("<!DOCTYPE html><meta charset=utf-8><script>{LOOK}</script><body>");
    for (place, page) in pages.iter().enumerate() {
        let page = page.replace('&', "&amp;").replace('"', "&quot;");
        for width in widths {
            html += &format!(
                "<iframe data-page={place} style='width:{width}px;height:900px;border:0' srcdoc=\"{page}\"></iframe>"
            );
        }
    }
    html
}
