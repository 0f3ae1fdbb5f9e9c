//! A server and the options it is started with: `pollux:irq-hold-us=0:irq-cpus=driver`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ServerKind;
use crate::fio::Engine;

/// Options of `pollux serve` that the comparison itself sets, and relies on.
const RESERVED: [&str; 6] = [
    "name",
    "attach",
    "vhost-user",
    "json",
    "config",
    "runtime-dir",
];
/// What a variant is called in tables, for one whose options are long.
const LABEL: &str = "label";
/// The program of a pollux, where it is another one than the comparison's.
const PROGRAM: &str = "program";
/// No option has a shorter name, so that the parts of a PCI address are none.
const OPTION_LENGTH_MIN: usize = 3;

/// A server as it was asked for. Two that differ in their options are compared like two servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Variant {
    kind: ServerKind,
    label: Option<String>,
    /// Without the dashes; none where an option has no value.
    options: Vec<(String, Option<String>)>,
}

impl Variant {
    /// Which server it is.
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// What tables call it: by its label where it has one, otherwise as it was written.
    pub fn name(&self) -> String {
        match &self.label {
            Some(label) => format!("{}:{label}", self.kind),
            None => self.to_string(),
        }
    }

    /// Whether it has storage of its own behind it instead of the null disk.
    pub fn has_storage(&self) -> bool {
        ["backend", "blockdev", "node"]
            .iter()
            .any(|option| self.has(option))
    }

    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(name, _)| name == option)
    }

    /// The value of `option`, where it has one.
    pub(crate) fn value(&self, option: &str) -> Option<&str> {
        let mut options = self.options.iter();
        options.find(|(name, _)| name == option)?.1.as_deref()
    }

    /// The program to start, where it is named.
    pub(super) fn program(&self) -> Option<&Path> {
        self.value(PROGRAM).map(Path::new)
    }

    /// `base` with the options of this variant put in place of those of the same name, and the
    /// others behind, as arguments.
    pub(super) fn arguments(&self, base: &[(&str, Option<String>)]) -> Vec<String> {
        let kept = base.iter().filter(|(name, _)| !self.has(name));
        let for_it = |(name, _): &&(String, Option<String>)| name != PROGRAM;
        let own = self.options.iter().filter(for_it);
        let own = own.map(|(name, value)| (&**name, value));
        kept.map(|(name, value)| (*name, value))
            .chain(own)
            .flat_map(|(name, value)| {
                std::iter::once(format!("--{name}")).chain(value.iter().cloned())
            })
            .collect()
    }

    fn check(&self) -> Result<(), String> {
        let (allowed, example): (&[&str], _) = match self.kind {
            ServerKind::Pollux => return self.check_pollux(),
            ServerKind::Qemu => (
                &["blockdev"],
                "qemu:blockdev=driver=host_device,filename=/dev/nvme0n1",
            ),
            ServerKind::Raw => (
                &["node", "engine", "hipri"],
                "raw:node=/dev/nvme0n1, with engine=io_uring_cmd for /dev/ng0n1 and hipri for poll queues",
            ),
            ServerKind::Rublk => (&[], "rublk"),
        };
        let foreign = self
            .options
            .iter()
            .find(|(it, _)| !allowed.contains(&&**it));
        if let Some((name, _)) = foreign {
            let kind = self.kind;
            return Err(format!(
                "{self}: {kind} has no option '{name}'; write {example}"
            ));
        }
        if self.kind == ServerKind::Raw && self.value("node").is_none() {
            return Err(format!("{self}: no node to load; write {example}"));
        }
        match self.value("engine") {
            None => Ok(()),
            Some(engine) => engine.parse::<Engine>().map(drop),
        }
    }

    fn check_pollux(&self) -> Result<(), String> {
        if self.has(PROGRAM) && self.program().is_none_or(|it| it.as_os_str().is_empty()) {
            return Err(format!(
                "{self}: no program is named; write pollux:program=FILE"
            ));
        }
        match self
            .options
            .iter()
            .find(|(it, _)| RESERVED.contains(&&**it))
        {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "{self}: the comparison sets --{name} itself; leave it out"
            )),
        }
    }
}

impl From<ServerKind> for Variant {
    fn from(kind: ServerKind) -> Self {
        Self {
            kind,
            label: None,
            options: Vec::new(),
        }
    }
}

impl fmt::Display for Variant {
    /// All of it, as it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.kind.to_string();
        if let Some(label) = &self.label {
            text = text + ":" + LABEL + "=" + label;
        }
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
        let mut variant = Self::from(kind);
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (part, None),
            };
            // A value may hold colons, as in `pci=0000:00:10.0`: what is no option belongs to it.
            let before = variant
                .options
                .last_mut()
                .and_then(|(_, value)| value.as_mut());
            match (is_option(name), before) {
                (true, _) if name == LABEL => variant.label = value,
                (true, _) => variant.options.push((name.to_owned(), value)),
                (false, Some(before)) => *before = format!("{before}:{part}"),
                (false, None) => {
                    return Err(format!(
                        "{text}: '{part}' is no option; write them as in pollux:irq-hold-us=0:irq-cpus=driver"
                    ));
                }
            }
        }
        variant.check()?;
        Ok(variant)
    }
}

fn is_option(name: &str) -> bool {
    name.len() >= OPTION_LENGTH_MIN
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
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
            let is_same = |other: &Variant| other.name() == variant.name();
            if variants[..index].iter().any(is_same) {
                let name = variant.name();
                return Err(format!(
                    "{name}: named twice; give each server another label="
                ));
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
            "pollux:label=vfio:backend=nvme-vfio,pci=0000:af:10.0:umem=anon",
            "qemu:blockdev=driver=nvme,device=0000:00:11.0,namespace=1",
            "raw:node=/dev/ng0n1:engine=io_uring_cmd:hipri",
        ] {
            let variant: Variant = text.parse().unwrap();
            assert_eq!(variant.to_string(), text);
            let json = serde_json::to_string(&variant).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Variant>(&json).unwrap(), variant);
        }
    }

    #[test]
    fn a_label_is_what_tables_show() {
        let name = |text: &str| text.parse::<Variant>().unwrap().name();
        assert_eq!(
            name("qemu:label=vfio:blockdev=driver=nvme,device=x"),
            "qemu:vfio"
        );
        assert_eq!(name("pollux:poll=busy"), "pollux:poll=busy");
    }

    #[test]
    fn a_value_may_hold_colons() {
        let text = "pollux:backend=nvme-vfio,pci=0000:af:10.0,nsid=1:umem=anon";
        let variant: Variant = text.parse().unwrap();
        assert_eq!(
            variant.value("backend"),
            Some("nvme-vfio,pci=0000:af:10.0,nsid=1")
        );
        assert_eq!(variant.value("umem"), Some("anon"));
        assert!(variant.has_storage());
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
    fn a_program_is_started_and_not_told_of_itself() {
        let other = parse("pollux:label=old:program=/tmp/old:poll=event")
            .0
            .remove(0);
        assert_eq!(other.program(), Some(Path::new("/tmp/old")));
        assert_eq!(other.arguments(&[]), ["--poll", "event"]);
        assert_eq!(parse("pollux").0[0].program(), None);
        assert!(refused("pollux:program=").contains("write pollux:program=FILE"));
        assert!(refused("pollux:program").contains("write pollux:program=FILE"));
        assert!(refused("qemu:program=/x").contains("qemu has no option 'program'"));
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
        assert!(refused("qemu:poll=busy").contains("qemu has no option 'poll'"));
        assert!(refused("rublk:node=x").contains("rublk has no option 'node'"));
        assert!(refused("raw").contains("no node to load"));
        assert!(refused("raw:node=/dev/x:engine=libaio").contains("use io_uring or io_uring_cmd"));
        assert!(refused("pollux:name=x").contains("sets --name itself"));
        assert!(refused("pollux:--poll=busy").contains("'--poll=busy' is no option"));
        assert!(refused("pollux:").contains("is no option"));
        assert!(refused("pollux,qemu,pollux").contains("pollux: named twice"));
    }
}
