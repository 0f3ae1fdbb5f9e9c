//! A server and the options it is started with: `pollux:irq-hold-us=0:irq-cpus=driver`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ServerKind;

/// Options of `pollux serve` that the comparison itself sets, and relies on.
const RESERVED: [&str; 6] = ["name", "attach", "backend", "json", "config", "runtime-dir"];

/// A server as it was asked for. Two that differ in their options are compared like two servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Variant {
    kind: ServerKind,
    /// Without the dashes; none where an option has no value.
    options: Vec<(String, Option<String>)>,
}

impl Variant {
    /// Which server it is.
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// `base` with the options of this variant put in place of those of the same name, and the
    /// others behind, as arguments.
    pub(super) fn arguments(&self, base: &[(&str, Option<String>)]) -> Vec<String> {
        let is_replaced = |name: &str| self.options.iter().any(|(own, _)| own == name);
        let kept = base.iter().filter(|(name, _)| !is_replaced(name));
        let own = self.options.iter().map(|(name, value)| (&**name, value));
        kept.map(|(name, value)| (*name, value))
            .chain(own)
            .flat_map(|(name, value)| {
                std::iter::once(format!("--{name}")).chain(value.iter().cloned())
            })
            .collect()
    }
}

impl From<ServerKind> for Variant {
    fn from(kind: ServerKind) -> Self {
        Self {
            kind,
            options: Vec::new(),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.kind.to_string();
        for (name, value) in &self.options {
            text = text + ":" + name;
            if let Some(value) = value {
                text = text + "=" + value;
            }
        }
        f.pad(&text)
    }
}

impl From<Variant> for String {
    fn from(variant: Variant) -> Self {
        variant.to_string()
    }
}

impl TryFrom<String> for Variant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let kind: ServerKind = parts.next().unwrap_or_default().parse()?;
        let options = parts
            .map(|part| option(text, part))
            .collect::<Result<Vec<_>, _>>()?;
        if kind != ServerKind::Pollux && !options.is_empty() {
            return Err(format!(
                "{text}: only pollux takes options; write {kind} alone"
            ));
        }
        Ok(Self { kind, options })
    }
}

fn option(text: &str, part: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match part.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (part, None),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    if !is_name {
        return Err(format!(
            "{text}: '{part}' is no option; write them as in pollux:irq-hold-us=0:irq-cpus=driver"
        ));
    }
    if RESERVED.contains(&name) {
        return Err(format!(
            "{text}: the comparison sets --{name} itself; leave it out"
        ));
    }
    Ok((name.to_owned(), value))
}

/// Servers separated by commas. A value may hold commas, too: what follows one and does not start
/// like a server belongs to the option before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants(pub Vec<Variant>);

impl FromStr for Variants {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut items: Vec<String> = Vec::new();
        for part in text.split(',') {
            let head = part.split(':').next().unwrap_or_default();
            let is_server = head.parse::<ServerKind>().is_ok();
            match items.last_mut().filter(|last| last.contains('=')) {
                Some(last) if !is_server => *last = format!("{last},{part}"),
                _ => items.push(part.to_owned()),
            }
        }
        let variants = items
            .iter()
            .map(|item| item.parse())
            .collect::<Result<Vec<Variant>, _>>()?;
        for (index, variant) in variants.iter().enumerate() {
            if variants[..index].contains(variant) {
                return Err(format!("{variant}: named twice; name each server once"));
            }
        }
        Ok(Self(variants))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Variants {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        text.parse::<Variants>().unwrap_err()
    }

    #[test]
    fn variants_are_labelled_as_they_are_written() {
        for text in [
            "pollux",
            "qemu",
            "pollux:irq-hold-us=0",
            "pollux:irq-hold-us=0:irq-cpus=driver",
            "pollux:flag",
        ] {
            let variant: Variant = text.parse().unwrap();
            assert_eq!(variant.to_string(), text);
            let json = serde_json::to_string(&variant).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Variant>(&json).unwrap(), variant);
        }
    }

    #[test]
    fn options_replace_those_of_the_same_name_and_follow_the_others() {
        let base = [
            ("poll", Some("busy".to_owned())),
            ("queues", Some("1".to_owned())),
            ("json", None),
        ];
        let plain = parse("pollux").0.remove(0);
        assert_eq!(
            plain.arguments(&base),
            ["--poll", "busy", "--queues", "1", "--json"]
        );
        let other = parse("pollux:poll=event:flag:irq-hold-us=0").0.remove(0);
        assert_eq!(
            other.arguments(&base),
            [
                "--queues",
                "1",
                "--json",
                "--poll",
                "event",
                "--flag",
                "--irq-hold-us",
                "0"
            ]
        );
    }

    #[test]
    fn lists_are_split_between_servers_and_not_inside_of_values() {
        let list = parse("pollux,pollux:features=packed,event_idx:poll=busy,qemu");
        let labels: Vec<String> = list.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            labels,
            [
                "pollux",
                "pollux:features=packed,event_idx:poll=busy",
                "qemu"
            ]
        );
        assert_eq!(list.0[1].kind(), ServerKind::Pollux);
    }

    #[test]
    fn what_cannot_be_started_is_refused() {
        assert!(refused("pollux,spdk").contains("spdk: unknown server"));
        assert!(refused("qemu:poll=busy").contains("only pollux takes options"));
        assert!(refused("pollux:name=x").contains("sets --name itself"));
        assert!(refused("pollux:--poll=busy").contains("'--poll=busy' is no option"));
        assert!(refused("pollux:").contains("is no option"));
        assert!(refused("pollux,qemu,pollux").contains("pollux: named twice"));
    }
}
