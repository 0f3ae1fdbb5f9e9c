//! A device as keys and values: each is the option of `pollux serve` of that name, read and checked as it is there.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, Parser};
use pollux_control::daemon::Wanted;
use pollux_toml::nearest;
use toml::Table;

use crate::output::one_line;
use crate::serve::DeviceArgs;

/// The keys as a command line of their own.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    device: DeviceArgs,
}

/// Those of a device.
pub(super) static DEVICE: LazyLock<Keys> = LazyLock::new(Keys::of::<Line>);

/// The keys that are the options of a command.
pub(super) struct Keys {
    command: Command,
    known: Vec<String>,
}

/// What is wrong, and the key that is at fault, if it is a single one.
#[derive(Debug)]
pub(super) struct WrongKey {
    pub(super) key: Option<String>,
    pub(super) reason: String,
}

impl Keys {
    pub(super) fn of<L: CommandFactory>() -> Self {
        let mut command = L::command();
        // Once, since it takes longer than reading a device does.
        command.build();
        let arguments = command.get_arguments().filter_map(|it| it.get_long());
        let keys = arguments.filter(|long| *long != "help");
        let known = keys.map(|long| long.replace('-', "_")).collect();
        Self { command, known }
    }

    /// Returns the command whose options they are.
    pub(super) fn command(&self) -> &Command {
        &self.command
    }

    /// Says what is wrong with a key that there is not.
    pub(super) fn check(&self, key: &str) -> Result<(), String> {
        if self.known.iter().any(|it| it == key) {
            return Ok(());
        }
        let near = nearest(key, self.known.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Err(format!("unknown key `{key}`{near}"))
    }

    /// Returns whether `one` and `other` cannot be had together.
    pub(super) fn are_opposite(&self, one: &str, other: &str) -> bool {
        let option = |key: &str| {
            let long = key.replace('_', "-");
            let mut options = self.command.get_arguments();
            options.find(|it| it.get_long() == Some(&long))
        };
        let (Some(one), Some(other)) = (option(one), option(other)) else {
            return false;
        };
        // Only one of the two may say so.
        let refuses = |one: &Arg, other: &Arg| {
            let opposites = self.command.get_arg_conflicts_with(one);
            opposites.iter().any(|it| it.get_id() == other.get_id())
        };
        refuses(one, other) || refuses(other, one)
    }

    /// Reads `words`, whose keys are known, as a command line.
    pub(super) fn matches(&self, words: &BTreeMap<String, String>) -> Result<ArgMatches, WrongKey> {
        let options = words.iter();
        let options = options.map(|(key, word)| format!("--{}={word}", key.replace('_', "-")));
        let line = std::iter::once("pollux".to_owned()).chain(options);
        let matches = self.command.clone().try_get_matches_from(line);
        matches.map_err(|error| {
            let (key, reason) = in_keys(&one_line(&error.render().to_string()));
            WrongKey { key, reason }
        })
    }

    /// Returns every key whose value is from where `is_meant` says.
    pub(super) fn values(
        &self,
        matches: &ArgMatches,
        is_meant: impl Fn(ValueSource) -> bool,
    ) -> BTreeMap<String, String> {
        let raw = |key: &String| {
            let source = matches.value_source(key);
            source.filter(|source| is_meant(*source))?;
            let words = matches.get_raw(key)?.map(|word| word.to_string_lossy());
            Some(words.collect::<Vec<_>>().join(","))
        };
        let keys = self.known.iter();
        keys.filter_map(|key| Some((key.clone(), raw(key)?)))
            .collect()
    }
}

/// Returns the device that `words` describe.
///
/// # Errors
/// What is wrong, on one line.
pub(crate) fn read_device(words: &BTreeMap<String, String>) -> Result<Wanted, String> {
    words.keys().try_for_each(|key| DEVICE.check(key))?;
    device(words).map_err(|wrong| wrong.reason)
}

/// Returns the device that `words`, whose keys are known, describe.
pub(super) fn device(words: &BTreeMap<String, String>) -> Result<Wanted, WrongKey> {
    let wrong = |key: Option<&str>, reason: String| WrongKey {
        key: key.map(Into::into),
        reason,
    };
    let matches = DEVICE.matches(words)?;
    let given = given(&matches);
    let mut keys = DEVICE.values(&matches, |_| true);
    // What is not given and has no part in the device.
    keys.retain(|key, _| {
        given.contains_key(key) || !given.keys().any(|it| DEVICE.are_opposite(it, key))
    });
    let args = DeviceArgs::from_arg_matches(&matches);
    let args = args.map_err(|error| wrong(None, error.to_string()))?;
    let wanted = args
        .wanted(keys)
        .map_err(|(key, reason)| wrong(Some(key), reason))?;
    let checked = wanted.options.check(&[]);
    checked.map_err(|error| wrong(None, error.to_string()))?;
    Ok(wanted)
}

/// Returns the `defaults` without what cannot be had together with a device's `own` keys.
pub(super) fn without_opposites(defaults: &Table, own: &Table) -> Table {
    let mut left = defaults.clone();
    left.retain(|key, _| !own.keys().any(|it| DEVICE.are_opposite(it, key)));
    left
}

/// Returns the keys of a device that a command line has, without those whose value is the default.
pub(crate) fn given(matches: &ArgMatches) -> BTreeMap<String, String> {
    DEVICE.values(matches, |source| source == ValueSource::CommandLine)
}

/// Returns the first key that clap's `message` names, and the message with keys for options.
fn in_keys(message: &str) -> (Option<String>, String) {
    let mut first = None;
    let mut words = String::new();
    for (index, part) in message.split('\'').enumerate() {
        if index % 2 == 0 {
            words.push_str(part);
        } else if let Some(option) = part.strip_prefix("--") {
            let name = option.split([' ', '=']).next().unwrap_or(option);
            let key = name.replace('-', "_");
            words.push_str(&format!("`{key}`"));
            first.get_or_insert(key);
        } else {
            words.push_str(&format!("'{part}'"));
        }
    }
    let words = words
        .replace("the argument ", "")
        .replace("; see --help", "");
    (first, words)
}
