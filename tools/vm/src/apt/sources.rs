//! The machine's apt sources, in both formats that apt reads (sources.list(5)).

use std::fmt;
use std::path::Path;

use crate::error::{Context, Error};

/// One source of binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) uris: Vec<String>,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    /// Value of Signed-By: key files, or a key itself.
    pub(crate) signed_by: Option<String>,
}

impl Source {
    /// Whether it may be Debian's own archive: others sign with keys of their own.
    pub(crate) fn may_be_debian(&self) -> bool {
        let key = self.signed_by.as_deref().unwrap_or("debian-archive");
        (key.contains("debian-archive") || key.contains("BEGIN PGP"))
            && self.components.iter().any(|c| c == "main")
            && self.uris.iter().any(|uri| !uri.starts_with("cdrom:"))
    }
}

impl fmt::Display for Source {
    /// Writes a deb822 stanza.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Types: deb")?;
        writeln!(f, "URIs: {}", self.uris.join(" "))?;
        writeln!(f, "Suites: {}", self.suites.join(" "))?;
        writeln!(f, "Components: {}", self.components.join(" "))?;
        match &self.signed_by {
            Some(key) => writeln!(f, "Signed-By: {key}"),
            None => Ok(()),
        }
    }
}

/// Reads every source of `etc` (usually /etc/apt).
pub(crate) fn of_machine(etc: &Path) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    if let Ok(text) = std::fs::read_to_string(etc.join("sources.list")) {
        sources.extend(parse_list(&text));
    }
    let parts = etc.join("sources.list.d");
    let Ok(entries) = std::fs::read_dir(&parts) else {
        return Ok(sources);
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let parse = match path.extension().and_then(|e| e.to_str()) {
            Some("list") => parse_list,
            Some("sources") => parse_deb822,
            _ => continue,
        };
        sources.extend(parse(
            &std::fs::read_to_string(&path).context(&path, "reading")?,
        ));
    }
    Ok(sources)
}

/// Parses the one-line format: `deb [option=value ...] URI suite component...`.
pub(crate) fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line
        .strip_prefix("deb")
        .filter(|r| r.starts_with([' ', '\t']))?
        .trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(|keys| keys.replace(',', " "));
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by,
    })
}

/// Parses the deb822 format: stanzas of `Name: value`, continued by indented lines.
pub(crate) fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(parse_stanza)
        .collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        match (
            line.starts_with([' ', '\t']),
            line.split_once(':'),
            fields.last_mut(),
        ) {
            (true, _, Some((_, value))) => {
                value.push('\n');
                value.push_str(line);
            }
            (false, Some((name, value)), _) => {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => return None,
        }
    }
    let field = |name| {
        fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    };
    let words = |name| -> Vec<String> {
        field(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let off = field("enabled").is_some_and(|v| ["no", "false", "0"].contains(&v));
    if off || !words("types").iter().any(|t| t == "deb") {
        return None;
    }
    Some(Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &[&str], signed_by: Option<&str>) -> Source {
        Source {
            uris: vec![uri.into()],
            suites: suites.iter().map(|s| (*s).to_owned()).collect(),
            components: vec!["main".into()],
            signed_by: signed_by.map(Into::into),
        }
    }

    #[test]
    fn one_line_format() {
        let text = "# note\ndeb http://a/debian bookworm main # end\n\
                    deb-src http://a/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k1,/k2 trusted=yes] http://b/debian x-security main\n";
        let expected = [
            source("http://a/debian", &["bookworm"], None),
            source("http://b/debian", &["x-security"], Some("/k1 /k2")),
        ];
        assert_eq!(parse_list(text), expected);
        assert_eq!(parse_list("deb\ndeb http://a\ndebug http://a b c\n"), []);
    }

    #[test]
    fn deb822_format() {
        let text = "Types: deb deb-src\n# note\nURIs: http://a/debian\nSuites: bookworm\n \
                    bookworm-updates\nComponents: main\nSigned-By: /k\n\n\n\
                    Types: deb\nEnabled: no\nURIs: http://b\nSuites: s\nComponents: main\n\n\
                    Types: deb-src\nURIs: http://c\nSuites: s\nComponents: main\n";
        let expected = source(
            "http://a/debian",
            &["bookworm", "bookworm-updates"],
            Some("/k"),
        );
        assert_eq!(parse_deb822(text), vec![expected.clone()]);
        assert_eq!(parse_deb822(&expected.to_string()), [expected]);
    }

    #[test]
    fn a_key_in_the_stanza_survives() {
        let text = "Types: deb\nURIs: http://a\nSuites: s\nComponents: main\n\
                    Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        let parsed = parse_deb822(text);
        assert!(parsed[0].may_be_debian());
        assert_eq!(parse_deb822(&parsed[0].to_string()), parsed);
    }

    #[test]
    fn others_are_told_by_their_keys() {
        assert!(source("http://a", &["bookworm"], None).may_be_debian());
        assert!(!source("http://a", &["bookworm"], Some("/k/vendor.gpg")).may_be_debian());
        assert!(!source("cdrom:[x]/", &["bookworm"], None).may_be_debian());
    }

    #[test]
    fn machine_folder_in_order() {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("sources.list"), "deb http://a s main\n").unwrap();
        let parts = etc.path().join("sources.list.d");
        std::fs::create_dir(&parts).unwrap();
        std::fs::write(parts.join("b.list"), "deb http://b s main\n").unwrap();
        let c = source("http://c", &["s"], None);
        std::fs::write(parts.join("c.sources"), c.to_string()).unwrap();
        std::fs::write(parts.join("d.list.disabled"), "deb http://d s main\n").unwrap();
        let expected = [
            source("http://a", &["s"], None),
            source("http://b", &["s"], None),
            c,
        ];
        assert_eq!(of_machine(etc.path()).unwrap(), expected);
    }
}
