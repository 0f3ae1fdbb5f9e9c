//! The configuration: devices in TOML, with the keys, defaults and checks of `pollux serve`'s options.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pollux_control::daemon::Wanted;
use pollux_dataplane::limits::DEVICES_MAX;
use pollux_toml::{Mistake, mistake, parse};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::output::{finish, json, line};

pub(crate) mod keys;

use keys::WrongKey;

const EXAMPLE: &str = "Example of a file:

[defaults]                    # keys of every device that does not have them itself
poll = \"adaptive\"

[[device]]
name = \"d0\"
backend = \"block,path=/dev/sdb,serial=DATA\"
queues = 2
cpus = \"2,3\"
attach = \"virtio\"

The keys are the options of `pollux serve` that describe a device, with _ for -: queue_size, irq_hold_us and so on.
Example: pollux config show /etc/pollux/pollux.toml";

/// Shows what a configuration means
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Show(ShowArgs),
}

/// Prints a configuration with every default filled in, as TOML
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
struct ShowArgs {
    /// The file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{path}: {reason}; name the file of a configuration")]
    File { path: PathBuf, reason: io::Error },
    #[error("{0}: empty, perhaps half-written; one without devices has a comment at least")]
    Empty(PathBuf),
    #[error(transparent)]
    Mistake(#[from] Mistake),
}

/// The file, as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    defaults: Table,
    #[serde(default)]
    device: Vec<Table>,
}

/// Runs one of the commands. Returns 0, or 2 where the configuration makes no sense.
pub(crate) fn main(args: &ConfigArgs) -> ExitCode {
    let ConfigCommand::Show(ShowArgs {
        file,
        json: as_json,
    }) = &args.command;
    let wanted = match read(file) {
        Ok(wanted) => wanted,
        Err(error) => {
            eprintln!("pollux: {error}");
            return ExitCode::from(2);
        }
    };
    let device = wanted.iter().map(|wanted| typed(&wanted.keys)).collect();
    let document = Document {
        defaults: Table::new(),
        device,
    };
    if *as_json {
        return finish(json(&document));
    }
    line(pollux_toml::to_string(&document).trim_end());
    ExitCode::SUCCESS
}

/// Reads the configuration at `path`. Nothing is opened but that file.
///
/// # Errors
/// [`ConfigError`] for the first mistake, with its place.
pub(crate) fn read(path: &Path) -> Result<Vec<Wanted>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::File {
        path: path.into(),
        reason,
    })?;
    if text.trim().is_empty() {
        return Err(ConfigError::Empty(path.into()));
    }
    Ok(devices(&path.display().to_string(), &text)?)
}

/// Returns the devices that `text`, which is from `file`, describes.
fn devices(file: &str, text: &str) -> Result<Vec<Wanted>, Mistake> {
    let Document { defaults, device } = parse(file, text)?;
    let wrong = |at: &str, reason: String| mistake(file, text, at, reason);
    for own in ["name", "backend"] {
        if defaults.contains_key(own) {
            let reason = format!("{own}: each device has its own; write it below [[device]]");
            return Err(wrong(&format!("defaults.{own}"), reason));
        }
    }
    if device.len() > DEVICES_MAX {
        let reason =
            format!("more than {DEVICES_MAX} devices: serve the others from another daemon");
        return Err(wrong(&format!("device.{DEVICES_MAX}"), reason));
    }
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for (index, own) in device.iter().enumerate() {
        let wanted = one(index, own, &defaults, &wrong)?;
        let name = wanted.options.name.to_string();
        if !names.insert(name.clone()) {
            let reason = format!("device {name} is described twice: give this one another name");
            return Err(wrong(&format!("device.{index}.name"), reason));
        }
        all.push(wanted);
    }
    Ok(all)
}

/// Returns the device `index`, which has its `own` keys before the `defaults`.
fn one(
    index: usize,
    own: &Table,
    defaults: &Table,
    wrong: &dyn Fn(&str, String) -> Mistake,
) -> Result<Wanted, Mistake> {
    // Where a key is, if it is anywhere.
    let place = |key: &str| match own.contains_key(key) || !defaults.contains_key(key) {
        true => format!("device.{index}.{key}"),
        false => format!("defaults.{key}"),
    };
    let mut merged = defaults.clone();
    merged.extend(own.clone());
    let mut words = BTreeMap::new();
    for (key, value) in &merged {
        let known = keys::check(key).map(|()| word(value));
        let value = known.and_then(|word| {
            word.ok_or_else(|| {
                format!(
                    "{key}: neither text nor a number; write it as the option of pollux serve is"
                )
            })
        });
        words.insert(
            key.clone(),
            value.map_err(|reason| wrong(&place(key), reason))?,
        );
    }
    keys::device(&words).map_err(|WrongKey { key, reason }| {
        let at = key.map_or_else(|| format!("device.{index}"), |key| place(&key));
        wrong(&at, reason)
    })
}

/// Returns a value as it would stand on a command line.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(word).collect();
            Some(words?.join(","))
        }
        _ => None,
    }
}

/// Returns keys and values as TOML: numbers as such.
fn typed(keys: &BTreeMap<String, String>) -> Table {
    let value = |text: &String| match text.parse::<i64>() {
        // A name may be 007.
        Ok(number) if number.to_string() == *text => Value::Integer(number),
        _ => Value::String(text.clone()),
    };
    keys.iter()
        .map(|(key, text)| (key.clone(), value(text)))
        .collect()
}

#[cfg(test)]
mod tests;
