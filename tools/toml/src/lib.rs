//! TOML that people write: a mistake is shown where it is, and of a word that is not known the nearest that is.

#![deny(unsafe_code)]

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

/// Names that are as similar as this are meant, perhaps.
const SIMILAR: f64 = 0.75;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {reason}")]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong, on one line.
    pub reason: String,
}

/// Reads `text`, which is from `file`.
///
/// # Errors
///
/// The first [`Mistake`].
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Mistake> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        placed(file, text, at, explain(error.message()))
    })
}

/// Returns the mistake `reason` of what is at `path` in `text`, such as `device.3.pool`: items of an array have numbers,
/// from 0. Where that is not, the place is that of the last part that is.
pub fn mistake(file: &str, text: &str, path: &str, reason: impl Into<String>) -> Mistake {
    placed(file, text, find(text, path), reason.into())
}

/// Returns `value` as TOML.
///
/// # Panics
///
/// Where it has what TOML has not: use it for strings, numbers, tables and lists.
pub fn to_string(value: &impl Serialize) -> String {
    toml::to_string(value).expect("strings, numbers, tables and lists")
}

/// Adds to serde's message, `unknown field `x`, expected one of `y`, `z``, which of them is nearest. The same is
/// done with variants.
pub fn explain(message: &str) -> String {
    let one_line = message.lines().collect::<Vec<_>>().join(" ");
    if !one_line.starts_with("unknown ") {
        return one_line;
    }
    let mut words = one_line.split('`').skip(1).step_by(2);
    let Some(unknown) = words.next() else {
        return one_line;
    };
    match nearest(unknown, words) {
        Some(known) => format!("{one_line}; did you mean `{known}`?"),
        None => one_line,
    }
}

/// Returns that of `known` which `unknown` is most like, if it is like it at all.
pub fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &str| strsim::jaro_winkler(unknown, known);
    known
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .filter(|known| likeness(known) >= SIMILAR)
}

fn placed(file: &str, text: &str, at: usize, reason: String) -> Mistake {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Mistake {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        reason,
    }
}

/// Returns the first byte of what is at `path`.
fn find(text: &str, path: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else {
        return 0;
    };
    let mut at = 0;
    let mut here = DeValue::Table(document.into_inner());
    for part in path.split('.') {
        let next = match here {
            DeValue::Table(table) => {
                let found = table.into_iter().find(|(key, _)| key.get_ref() == part);
                found.map(|(key, value)| (key.span().start, value))
            }
            DeValue::Array(items) => {
                let wanted = part.parse().ok();
                let found = wanted.and_then(|index| items.into_iter().nth(index));
                found.map(|item| (item.span().start, item))
            }
            _ => None,
        };
        let Some((start, value)) = next else {
            return at;
        };
        at = start;
        here = value.into_inner();
    }
    at
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TEXT: &str = "# ä\n[a]\nb = 1\n\n[[c]]\nd = 2\n\n[[c]]\n  d = [3]\n";

    fn place(path: &str) -> (usize, usize) {
        let Mistake { line, column, .. } = mistake("f", TEXT, path, "");
        (line, column)
    }

    #[test]
    fn what_is_at_a_path_is_found() {
        assert_eq!((place("a"), place("a.b")), ((2, 2), (3, 1)));
        assert_eq!((place("c.0.d"), place("c.1.d")), ((6, 1), (9, 3)));
        assert_eq!(place("c.1.d.0"), (9, 8));
    }

    #[test]
    fn what_is_not_there_is_where_it_would_be() {
        assert_eq!((place("x"), place("a.x")), ((1, 1), (2, 2)));
        assert_eq!((place("c.1.x"), place("c.1")), ((8, 1), (8, 1)));
        assert_eq!(place("a.b.x"), (3, 1));
    }

    #[test]
    fn a_text_that_is_no_toml_is_refused_where_it_breaks_off() {
        let refused = parse::<BTreeMap<String, u8>>("f", "a = 1\nb = ");
        let refused = refused.expect_err("half of a line").to_string();
        assert!(refused.starts_with("f:2:"), "{refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }

    #[test]
    fn a_word_that_is_nearly_known_is_named() {
        let known = ["queues", "queue_size"];
        assert_eq!(nearest("queus", known.into_iter()), Some("queues"));
        assert_eq!(nearest("zzz", known.into_iter()), None);
        let message = "unknown field `quees`, expected `queues` or `queue_size`";
        assert!(explain(message).ends_with("did you mean `queues`?"));
        assert_eq!(explain("missing\nfield"), "missing field");
    }
}
