//! The configuration: devices in TOML, with the keys, defaults and checks of `pollux serve`'s options.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use pollux_control::daemon::{Plan, Wanted};
use pollux_control::sandbox::DiskPaths;
use pollux_dataplane::limits::DEVICES_MAX;
use pollux_toml::{Mistake, mistake, parse};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::output::{finish, json, line};

pub(crate) mod described;
pub(crate) mod keys;
mod pool;

use keys::{Keys, WrongKey};

const EXAMPLE: &str = "Example of a file:

paths = [\"/dev/sdb\", \"/srv\"]  # where disks may be, now and after a reload; anywhere when left out

[defaults]                    # keys of every device that does not have them itself
poll = \"adaptive\"

[[device]]
name = \"d0\"
backend = \"block,path=/dev/sdb,serial=DATA\"
queues = 2
cpus = \"2,3\"
attach = \"virtio\"

[[pool]]                      # threads for devices that say pool = \"small\"
name = \"small\"
cpus = \"4-5\"

The keys of a device are the options of `pollux serve` that describe a device, with _ for -: queue_size, irq_hold_us and so on.
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
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// The folders and files below which disks may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths: Option<Vec<PathBuf>>,
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    defaults: Table,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pool: Vec<Table>,
    #[serde(default)]
    device: Vec<Table>,
}

/// A file, for saying where in it a mistake is.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// Returns the mistake that the value at the dotted path `at` is.
    fn wrong(self, at: &str, reason: impl ToString) -> Mistake {
        mistake(self.file, self.text, at, reason.to_string())
    }
}

/// Runs one of the commands. Returns 0, or 2 where the configuration makes no sense.
pub(crate) fn main(args: &ConfigArgs) -> ExitCode {
    let ConfigCommand::Show(ShowArgs {
        file,
        json: as_json,
    }) = &args.command;
    let document = match read(file) {
        Ok((document, _)) => document,
        Err(error) => {
            eprintln!("pollux: {error}");
            return ExitCode::from(2);
        }
    };
    if *as_json {
        return finish(json(&document));
    }
    line(pollux_toml::to_string(&document).trim_end());
    ExitCode::SUCCESS
}

/// Returns what the configuration at `path` means. Nothing is opened but that file.
///
/// # Errors
/// [`ConfigError`] for the first mistake, with its place.
pub(crate) fn plan(path: &Path) -> Result<Plan, ConfigError> {
    read(path).map(|(_, plan)| plan)
}

/// Reads the configuration at `path`: with every default filled in, and what it means.
fn read(path: &Path) -> Result<(Document, Plan), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::File {
        path: path.into(),
        reason,
    })?;
    if text.trim().is_empty() {
        return Err(ConfigError::Empty(path.into()));
    }
    Ok(understand(&path.display().to_string(), &text)?)
}

/// Returns `text`, which is from `file`, with every default filled in, and what it means.
fn understand(file: &str, text: &str) -> Result<(Document, Plan), Mistake> {
    let source = Source { file, text };
    let document: Document = parse(file, text)?;
    for own in ["name", "backend"] {
        if document.defaults.contains_key(own) {
            let reason = format!("{own}: each device has its own; write it below [[device]]");
            return Err(source.wrong(&format!("defaults.{own}"), reason));
        }
    }
    if document.device.len() > DEVICES_MAX {
        let reason =
            format!("more than {DEVICES_MAX} devices: serve the others from another daemon");
        return Err(source.wrong(&format!("device.{DEVICES_MAX}"), reason));
    }
    let (mut filled, mut plan) = (Document::default(), Plan::default());
    let paths = document.paths.clone().map(DiskPaths::new).transpose();
    plan.paths = paths.map_err(|relative| source.wrong("paths", relative))?;
    filled.paths = document.paths.clone();
    let twice = |what: &str, name: &str| {
        format!("{what} {name} is described twice: give this one another name")
    };
    let mut names = BTreeSet::new();
    for (index, own) in document.pool.iter().enumerate() {
        let (keys, pool) = pool::one(index, own, source)?;
        if !names.insert(pool.name.clone()) {
            let reason = twice("pool", &pool.name);
            return Err(source.wrong(&format!("pool.{index}.name"), reason));
        }
        filled.pool.push(typed(&keys));
        plan.pools.push(pool);
    }
    names.clear();
    for (index, own) in document.device.iter().enumerate() {
        let wanted = one(index, own, &document.defaults, &plan, source)?;
        let name = wanted.options.name.to_string();
        if !names.insert(name.clone()) {
            let reason = twice("device", &name);
            return Err(source.wrong(&format!("device.{index}.name"), reason));
        }
        if let Some(paths) = &plan.paths {
            let inside = wanted.options.check_storage(paths);
            let wrong = |outside| source.wrong(&format!("device.{index}.backend"), outside);
            inside.map_err(wrong)?;
        }
        filled.device.push(typed(&wanted.keys));
        plan.devices.push(wanted);
    }
    Ok((filled, plan))
}

/// Returns the device `index`, which has its `own` keys before the `defaults`.
fn one(
    index: usize,
    own: &Table,
    defaults: &Table,
    plan: &Plan,
    source: Source,
) -> Result<Wanted, Mistake> {
    // Where a key is, if it is anywhere.
    let place = |key: Option<&str>| match key {
        None => format!("device.{index}"),
        Some(key) if own.contains_key(key) || !defaults.contains_key(key) => {
            format!("device.{index}.{key}")
        }
        Some(key) => format!("defaults.{key}"),
    };
    let mut merged = keys::without_opposites(defaults, own);
    merged.extend(own.clone());
    let wrong = |WrongKey { key, reason }| source.wrong(&place(key.as_deref()), reason);
    let words = words(&merged, &keys::DEVICE).map_err(wrong)?;
    let wanted = keys::device(&words).map_err(wrong)?;
    let pool = wanted.options.pool.as_deref();
    let known = pool.map_or(Ok(()), |pool| pool::check(pool, &plan.pools));
    known.map_err(|reason| source.wrong(&place(Some("pool")), reason))?;
    Ok(wanted)
}

/// Returns the values of a table, which has `keys`, as they would stand on a command line.
fn words(table: &Table, keys: &Keys) -> Result<BTreeMap<String, String>, WrongKey> {
    let word = |(key, value): (&String, &Value)| {
        let wrong = |reason: String| WrongKey {
            key: Some(key.clone()),
            reason,
        };
        keys.check(key).map_err(wrong)?;
        let word = word(value).ok_or_else(|| {
            wrong(format!(
                "{key}: neither text nor a number; write it as the option of pollux serve is"
            ))
        })?;
        Ok((key.clone(), word))
    };
    table.iter().map(word).collect()
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
