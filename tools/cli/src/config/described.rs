//! The keys of a device for the OpenAPI document, made of the options that they are.

use std::any::TypeId;
use std::num::NonZeroU32;

use clap::{Arg, Command};
use pollux_control::api::{DeviceKey, KeyKind};

use super::keys::DEVICE;

/// What the API needs of every device.
const REQUIRED: [&str; 2] = ["name", "backend"];

/// Returns every key of a device.
pub(crate) fn device() -> Vec<DeviceKey> {
    let command = DEVICE.command();
    let options = command.get_arguments();
    options.filter_map(|option| key(command, option)).collect()
}

fn key(command: &Command, option: &Arg) -> Option<DeviceKey> {
    let name = name(option).filter(|name| name != "help")?;
    let defaults = option.get_default_values().iter();
    let default = defaults.map(|word| word.to_string_lossy().into_owned());
    Some(DeviceKey {
        meaning: meaning(command, option),
        kind: kind(option),
        default: default.reduce(|all, one| format!("{all},{one}")),
        is_required: REQUIRED.contains(&name.as_str()),
        name,
    })
}

fn name(option: &Arg) -> Option<String> {
    option.get_long().map(|long| long.replace('-', "_"))
}

fn kind(option: &Arg) -> KeyKind {
    let words = option.get_possible_values();
    if !words.is_empty() {
        let words = words.iter().map(|word| word.get_name().to_owned());
        return KeyKind::Word(words.collect());
    }
    let parsed = option.get_value_parser().type_id();
    let number = |least, greatest| KeyKind::Number { least, greatest };
    // Sizes are text: 64M.
    let is_size = option
        .get_value_names()
        .is_some_and(|names| names == ["SIZE"]);
    if parsed == TypeId::of::<u16>() {
        number(0, Some(u16::MAX.into()))
    } else if parsed == TypeId::of::<u32>() {
        number(0, Some(u32::MAX.into()))
    } else if parsed == TypeId::of::<NonZeroU32>() {
        number(1, Some(u32::MAX.into()))
    } else if parsed == TypeId::of::<u64>() && !is_size {
        number(0, None)
    } else {
        KeyKind::Text
    }
}

/// Returns what the help of an option says, with keys for options, the words that it takes, and what it excludes.
fn meaning(command: &Command, option: &Arg) -> String {
    let help = option.get_long_help().or_else(|| option.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut text: Vec<String> = vec![in_keys(&help.replace('\n', " "))];
    for word in option.get_possible_values() {
        let help = word.get_help().map(ToString::to_string);
        text.extend(help.map(|help| format!("{}: {help}", word.get_name())));
    }
    // Either of two may say so.
    let excludes = |one: &Arg, other: &Arg| {
        let excluded = command.get_arg_conflicts_with(one);
        excluded.iter().any(|it| it.get_id() == other.get_id())
    };
    let others = command
        .get_arguments()
        .filter(|other| excludes(option, other) || excludes(other, option));
    let others: Vec<String> = others
        .filter_map(name)
        .map(|name| format!("`{name}`"))
        .collect();
    if !others.is_empty() {
        text.push(format!("not together with {}", others.join(", ")));
    }
    text.join("; ")
}

/// Returns `help` with each option that it names as the key that it is.
fn in_keys(help: &str) -> String {
    let mut parts = help.split("--");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        let end = part.find(|letter| !is_name(letter)).unwrap_or(part.len());
        let (option, rest) = part.split_at(end);
        text.push_str(&format!("`{}`{rest}", option.replace('-', "_")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    use std::collections::BTreeMap;

    fn words(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter().map(|&(key, word)| (key.into(), word.into()));
        pairs.collect()
    }

    const LEAST: [(&str, &str); 2] = [("name", "d0"), ("backend", "null,size=1G")];

    #[test]
    fn defaults_are_those_of_a_device_and_each_is_taken() {
        let filled = keys::read_device(&words(&LEAST)).unwrap().keys;
        let described = device();
        let defaults = described.iter().filter_map(|key| {
            let default = key.default.clone()?;
            Some((key.name.clone(), default))
        });
        let mut defaults: BTreeMap<String, String> = defaults.collect();
        assert!(defaults.len() >= 9, "{defaults:?}");
        defaults.extend(words(&LEAST));
        assert_eq!(defaults, filled);
        let again = keys::read_device(&defaults).unwrap();
        assert_eq!(again.keys, filled);
    }

    #[test]
    fn what_a_key_takes_is_what_is_read() {
        for key in device() {
            assert!(key.meaning.len() > 10, "{key:?}");
            assert!(!key.meaning.contains("--"), "{key:?}");
            let read = |word: &str| {
                let mut words = words(&LEAST);
                words.insert(key.name.clone(), word.to_owned());
                keys::read_device(&words).map_err(|reason| reason.replace('`', ""))
            };
            match &key.kind {
                KeyKind::Word(words) => {
                    for word in words {
                        assert!(read(word).is_ok(), "{word}: {key:?}");
                    }
                    assert!(read("other").is_err(), "{key:?}");
                }
                KeyKind::Number { .. } => {
                    let refused = read("1 M").unwrap_err();
                    assert!(refused.contains(&key.name), "{refused}");
                }
                KeyKind::Text => {}
            }
        }
    }

    #[test]
    fn keys_are_of_the_kind_that_their_options_are() {
        let described = device();
        let find = |name: &str| described.iter().find(|key| key.name == name).expect(name);
        let u16 = KeyKind::Number {
            least: 0,
            greatest: Some(65535),
        };
        assert_eq!(find("queues").kind, u16);
        assert_eq!(
            find("latency_sample").kind,
            KeyKind::Number {
                least: 1,
                greatest: Some(u32::MAX.into())
            }
        );
        assert_eq!(
            find("irq_hold_us").kind,
            KeyKind::Number {
                least: 0,
                greatest: None
            }
        );
        assert_eq!(find("bounce_size").kind, KeyKind::Text);
        let polls = ["busy", "adaptive", "event"].map(str::to_owned);
        assert_eq!(find("poll").kind, KeyKind::Word(polls.into()));
        assert!(find("poll").meaning.contains("busy: Never sleep"));
        assert!(
            find("pool")
                .meaning
                .ends_with("not together with `cpus`, `poll`, `poll_us`")
        );
        let required = described.iter().filter(|key| key.is_required);
        assert_eq!(required.count(), REQUIRED.len());
    }
}
